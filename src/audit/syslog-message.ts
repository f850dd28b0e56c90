/** Records as syslog messages: RFC 5424, framed by octet counting (RFC 6587 §3.4.1, RFC 5425 §4.3). */
import { timeOf } from './layout.ts'

/** RFC 5424 §6.2.1: log audit. */
const FACILITY = 13
const INFORMATIONAL = 6
const NOTICE = 5

export interface SyslogNames {
  /** HOSTNAME: printable, without spaces. */
  readonly host: string
}

/** `type` of the record is its MSGID; `text` goes as it is but for what is not ASCII, which JSON can escape. */
export function syslogFrame(payload: Buffer, text: string, { host }: SyslogNames): Buffer {
  const refused = payload.includes('"decision":"refuse"')
  const priority = FACILITY * 8 + (refused ? NOTICE : INFORMATIONAL)
  const time = new Date(timeOf(payload)).toISOString()
  // RFC 5424 §6.4: without a byte order mark MSG is octets, so ASCII is all that may stand there.
  const ascii = text.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  const message = `<${priority}>1 ${time} ${host} errand - ${messageId(payload)} - ${ascii}`
  return Buffer.from(`${Buffer.byteLength(message, 'latin1')} ${message}`, 'latin1')
}

/** RFC 5424 §6.2.7: 32 printable characters at most. */
function messageId(payload: Buffer): string {
  const type = /"type":"([a-z._]{1,32})"/.exec(payload.toString('latin1', Math.max(0, payload.length - 128)))?.[1]
  return type ?? '-'
}
