/** Which log is in a data folder: an id that stands beside the log's own folder, made once. */
import { join } from 'node:path'
import { isLogId, newLogId } from '../../audit/ids.ts'
import { LOG_ID_FILE } from '../../audit/layout.ts'
import { StoreFault } from '../fault.ts'
import type { LogFiles } from './log-files.ts'
import { putFile } from './segments.ts'

export async function openLogId(files: LogFiles, folder: string, wanted: string | undefined): Promise<string> {
  await files.makeFolder(folder)
  const there = (await files.readWhole(join(folder, LOG_ID_FILE)))?.toString('latin1').trim()
  if (there !== undefined) {
    if (!isLogId(there))
      throw new StoreFault(
        'data_damaged',
        `${join(folder, LOG_ID_FILE)} does not hold a log id (8 hexadecimal digits, the name of the folder beside it): restore it from a backup`,
      )
    if (wanted !== undefined && wanted !== there) throw new Error(`the log in ${folder} is ${there}, not ${wanted}`)
    return there
  }
  const logId = wanted ?? newLogId()
  if (!isLogId(logId)) throw new Error('a log id is 8 hexadecimal digits')
  await putFile(files, folder, LOG_ID_FILE, Buffer.from(`${logId}\n`, 'latin1'))
  // Durable with the log's own folder: nothing is in that before both are.
  return logId
}
