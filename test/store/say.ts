/** A line on stdout that is out before anything else happens: what a process acknowledges before it is killed. */
import { writeSync } from 'node:fs'

/** A full pipe says so, and is tried again. */
export function say(line: string): void {
  const bytes = Buffer.from(`${line}\n`)
  for (let sent = 0; sent < bytes.length; ) {
    try {
      sent += writeSync(1, bytes, sent)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}
