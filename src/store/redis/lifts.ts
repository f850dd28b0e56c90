/** That bans were lifted, as Redis tells it of those that it holds no more. */
import { keepsOut } from '../revocations.ts'
import type { Ledger, Lifted } from '../ledger.ts'
import { type Run, script, unexpected } from './client.ts'
import { INDEX } from './revocation-scripts.ts'

const AT_ONCE = 500

/** id, when, what is recorded: of a lift that Redis may have lost, with or without what was lifted. */
const LIFT_AGAIN = script(
  `${INDEX}
record_lift(arg(1), arg(2), arg(3))
local sequence, one = find(arg(1))
if sequence and one.ban == '1' then lift(sequence, one, arg(3)) end
return {'done'}
`,
  { critical: true },
)

/** ids: what is recorded of each lift, empty where there was none. */
const LIFTS = script(
  `
local answer = {'lifts'}
for n = 1, args do answer[#answer + 1] = redis.call('HGET', K .. 'rev:lifts', arg(n)) or '' end
return answer
`,
  { critical: true },
)

/** Adds to the ledger what others have lifted, of what stands there as if it were in force. */
export async function learnLifts(run: Run, ledger: Ledger): Promise<void> {
  const open = ledger.entries().filter(({ entry, lifted }) => keepsOut(entry) && !lifted)
  for (let at = 0; at < open.length; at += AT_ONCE) {
    const ids = open.slice(at, at + AT_ONCE).map(({ entry }) => entry.id)
    const [word, ...records] = await run(LIFTS, ids)
    if (word !== 'lifts' || records.length !== ids.length) throw unexpected([word, ...records])
    const steps = ids.map(async (id, index) => {
      const record = records[index]
      if (record) await ledger.lifted({ ...(JSON.parse(record) as Omit<Lifted, 'id'>), id })
    })
    // It stands in memory where it cannot be written.
    await Promise.all(steps).catch(() => undefined)
  }
}

export async function liftAgain(run: Run, { id, by, reason, at }: Lifted): Promise<void> {
  await run(LIFT_AGAIN, [id, at, JSON.stringify({ at, by, reason })])
}
