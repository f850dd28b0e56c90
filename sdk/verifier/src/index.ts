/** @errand/verifier: what a tool API installs. */
export type {
  AccessTokenClaims,
  Actor,
  AttestationKind,
  Confirmation,
  Constraint,
  Effect,
  Grant,
  Hop,
  Tier,
  ToolAuthorization,
} from './claims.ts'
export {
  BadRequestError,
  InsufficientScopeError,
  InvalidProofError,
  InvalidTokenError,
  type NextAction,
  type RefusalCode,
  refusalResponse,
  UnavailableError,
  VerificationError,
} from './errors.ts'
export type { FollowerStatus } from './follower.ts'
export type { Fetch } from './http.ts'
export { KeptStateError, type StateStore } from './kept-state.ts'
export type { ResourceMetadata } from './metadata.ts'
export { protectFetch } from './middleware-fetch.ts'
export { type HonoContextLike, honoMiddleware } from './middleware-hono.ts'
export {
  createMcpAuth,
  type McpAuth,
  type McpAuthInfo,
  type McpContextLike,
  type McpRefusal,
} from './middleware-mcp.ts'
export { type NodeRequest, nodeMiddleware, toVerifyRequest } from './middleware-node.ts'
export type { ReplayGuard } from './replay.ts'
export type { VerifyRequest } from './request.ts'
export type { Route, RoutedRequest } from './routes.ts'
export {
  type Authenticated,
  type Call,
  type Caller,
  createVerifier,
  type VerifiedCall,
  type Verifier,
  type VerifierOptions,
} from './verifier.ts'
export type { Regression } from './witness.ts'
