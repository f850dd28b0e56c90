/** A process that appends as fast as it can and says on stdout what was acknowledged; it is there to be killed. */
import { openAuditLog } from '../../../src/store/files/audit-log.ts'
import { issuing, memorySubjectKeys, vaultOver } from '../../audit/fixtures.ts'
import { checkpointsOf } from '../../audit/signer.ts'
import { say } from '../say.ts'

const folder = process.argv[2]
if (folder === undefined) throw new Error('which folder?')
const now = () => Date.now()
const log = await openAuditLog({ folder, now, subjectVault: vaultOver(memorySubjectKeys()), maxSegmentBytes: 200_000 })
const checkpoints = checkpointsOf(log)
setInterval(() => void checkpoints.tick(), 20)
say(`open ${log.size}`)

async function work(): Promise<never> {
  for (;;) {
    const event = issuing(log.logId, now())
    const { index } = await log.append(event)
    say(`${index} ${event.jti}`)
  }
}
await Promise.all(Array.from({ length: 32 }, work))
