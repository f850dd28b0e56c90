/** Makes large data folders and configurations, through the stores' own code, fast enough to be made for one run. */
import { join } from 'node:path'
import { newDecisionId } from '../src/audit/ids.ts'
import { newId } from '../src/tasks/ids.ts'
import { openAuditLog } from '../src/store/files/audit-log.ts'
import { openStores } from '../src/store/open.ts'
import type { SubjectVault } from '../src/audit/subject-vault.ts'

const AT_ONCE = 5000
const now = () => Math.floor(Date.now() / 1000)
const HOUR = 3600

async function inBatches(count: number, make: (number: number) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < count; from += AT_ONCE)
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, at) => make(from + at)))
}

async function withStores(
  dataDir: string,
  use: (stores: Awaited<ReturnType<typeof openStores>>) => Promise<void>,
): Promise<void> {
  const stores = await openStores({ store: { kind: 'embedded' }, dataDir, now, monotonic: () => performance.now() })
  await use(stores).finally(() => stores.close())
}

/** Active tasks, of a thousand users. */
export const tasksIn = (count: number) => (dataDir: string) =>
  withStores(dataDir, ({ tasks }) =>
    inBatches(count, (number) => {
      const id = newId('task')
      const task = {
        id,
        root: id,
        depth: 1,
        subject: { id: `dev|user-${number % 1000}`, issuer: 'dev', groups: ['support'], claims: {}, autonomous: false },
        agent: 'research',
        agentSpiffeId: 'spiffe://company.example/agents/research',
        purpose: 'answer a question about an order',
        context: { environment: 'staging', dataClassification: 'internal' },
        budget: {},
        authority: [
          { tool: 'tickets', operation: 'read_ticket' },
          { tool: 'tickets', operation: 'search_tickets' },
        ],
        state: 'active',
        createdAt: now(),
        deadline: now() + HOUR,
        spent: { calls: 0, exchanges: 0, cost: 0 },
      } as const
      return tasks.open(task, now())
    }),
  )

/** Live revocations, in turn of a task, of a token, and of a user at a tool. */
export const revocationsIn = (count: number) => (dataDir: string) =>
  withStores(dataDir, async ({ revocations }) => {
    const add = (number: number) => {
      const match = [
        { task: newId('task') },
        { jti: newId('req').slice(4) },
        { sub: `dev|user-${number}`, aud: 'https://tickets.example.com/' },
      ][number % 3]!
      const common = { id: newId('rev'), match, reason: 'measured', by: 'admin', at: now(), expiresAt: now() + HOUR }
      return revocations.add({ ...common, mode: number % 3 === 0 ? 'ban' : 'cut' })
    }
    // A combination of dimensions that is new is weighed against all that is being written: each is there before many.
    for (const number of [0, 1, 2]) await add(number)
    await inBatches(count - 3, (number) => add(number + 3))
  })

/** Says nothing of anybody, so no subject is asked for. */
const nobody = (): never => {
  throw new Error('these records name no subject')
}
const NO_SUBJECTS: SubjectVault = { peek: nobody, of: nobody, hashOf: nobody, byHash: nobody, erase: nobody }

/** Audit records of refusals, in the log that a first start has begun. */
export const recordsIn = (count: number) => async (dataDir: string) => {
  const log = await openAuditLog({ folder: join(dataDir, 'audit'), now: Date.now, subjectVault: NO_SUBJECTS })
  await inBatches(count, () =>
    log.append({
      type: 'token.refused',
      decision: 'refuse',
      reason: 'policy_denied',
      decisionId: newDecisionId(log.logId, Date.now()),
      agent: 'research',
      task: newId('task'),
      tool: 'tickets',
      operations: ['read_ticket', 'search_tickets', 'add_comment'],
      rules: ['read_for_users', 'reversible_for_users'],
      correlation: newId('req'),
      epoch: '0.0',
    }),
  )
  await log.close()
}

const otherAgent = (number: number): string => `other-${number}`

/** Registered agents beside the measured one. */
export const agentFiles = (count: number): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, number) => [
      `agents/${otherAgent(number)}.yaml`,
      `client_id: ${otherAgent(number)}
spiffe_id: spiffe://bench.example/agents/${otherAgent(number)}
evidence: [jwt_svid]
stage: read
ceiling: [desk:read, desk:search]
`,
    ]),
  )

/** Agents among which the policies are spread, ten at most to each. */
export const POLICY_AGENTS = 100

/** Policies about other agents than the measured one, and some about everybody, as sets grow where there are many. */
export const policyFile = (count: number): string =>
  Array.from(
    { length: count },
    (_, number) => `@id("grown_${number}")
@reason("what agent ${number % POLICY_AGENTS} may do for team ${number}")
permit (
  principal == Agent::"${otherAgent(number % POLICY_AGENTS)}",
  action == Action::"desk:read",
  resource == Tool::"desk"
)
when { context.subject.groups.contains("team-${number}") };
`,
  ).join('\n')
