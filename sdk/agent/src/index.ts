/** What `@errand/agent` offers. */
export {
  type Agent,
  type AgentOptions,
  type Budget,
  createAgent,
  type Measurements,
  type TaskAuthority,
  type TaskDetails,
  type TaskRequest,
} from './agent.ts'
export { ErrandError, type ErrandErrorFields, type Lost, type NextAction } from './errors.ts'
export {
  type CertificateOptions,
  type Evidence,
  jwtSvid,
  type Provided,
  privateKeyJwt,
  tlsClientAuth,
  x509Svid,
} from './evidence.ts'
export { type JoinOptions, joinByToken } from './join.ts'
export type { PrivateJwk } from './jws.ts'
export type { Ask, Task, TaskView } from './task.ts'
export { clientAttestation, witSvid, workloadToken } from './vouched.ts'
export type { TaskToken, TokenRequest, ToolAuthorization } from './token.ts'
