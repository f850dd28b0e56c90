/**
 * More requests a second than the service can do, each sent when it is due whatever is still unanswered. Requests that
 * were turned away are sent again later: nothing of them was spent.
 */
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { preparation, type Site } from './load.ts'

export interface FloodResult {
  readonly offeredPerSecond: number
  readonly servedPerSecond: number
  /** Answered 503. */
  readonly shedPerSecond: number
  /** Of those, without Retry-After. */
  readonly shedSilently: number
  readonly otherAnswers: number
  readonly firstOther?: string
  /** What was said to those turned away, and how often. */
  readonly shedAs: Readonly<Record<string, number>>
  /** Milliseconds from when a request was due. */
  readonly served: { readonly p50: number; readonly p99: number }
  readonly shed: { readonly p50: number; readonly p99: number }
  /** Resident MiB, each second. */
  readonly memory: readonly number[]
}

interface Due {
  readonly request: Buffer
  readonly madeAt: number
  readonly due: number
}

/** A proof is good for a minute. */
const FRESH_MS = 40_000
const RENEW_MS = 30_000

const residentOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

export async function flood(
  site: Site,
  { rate, seconds, connections }: { readonly rate: number; readonly seconds: number; readonly connections: number },
): Promise<FloodResult> {
  const port = Number(new URL(site.folder.issuer).port)
  let next = await preparation(site, 'steady')
  const again: Due[] = []
  const idle: Socket[] = []
  const busy = new Map<Socket, Due>()
  const times: Record<'served' | 'shed', number[]> = { served: [], shed: [] }
  let sent = 0
  let shedSilently = 0
  let otherAnswers = 0
  let firstOther: string | undefined
  const shedAs: Record<string, number> = {}
  let over = false

  const answered = (socket: Socket, head: string, whole: () => string): void => {
    const now = performance.now()
    const request = busy.get(socket)
    busy.delete(socket)
    idle.push(socket)
    if (!request) return
    if (head.startsWith('HTTP/1.1 200 ')) times.served.push(now - request.due)
    else if (head.startsWith('HTTP/1.1 503 ')) {
      times.shed.push(now - request.due)
      if (!/\r\nretry-after: \d/i.test(head)) shedSilently += 1
      const why = /"error_description":"([^"]*)"/.exec(whole())?.[1] ?? 'nothing'
      shedAs[why] = (shedAs[why] ?? 0) + 1
      again.push(request)
    } else {
      otherAnswers += 1
      firstOther ??= whole()
    }
  }
  const open = async (): Promise<void> => {
    const socket = await new Promise<Socket>((resolve, reject) => {
      const made = connect({ port, host: '127.0.0.1', noDelay: true }, () => resolve(made))
      made.once('error', reject)
    })
    let rest: Buffer = Buffer.alloc(0)
    socket.on('error', () => undefined) // its end follows
    socket.on('close', () => {
      if (busy.delete(socket)) otherAnswers += 1
      const at = idle.indexOf(socket)
      if (at >= 0) idle.splice(at, 1)
      if (!over) void open().catch(() => undefined)
    })
    socket.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      const head = rest.indexOf('\r\n\r\n')
      if (head < 0) return
      const text = rest.toString('latin1', 0, head)
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0)
      if (rest.length < head + 4 + length) return
      const answer = rest
      rest = rest.subarray(head + 4 + length)
      answered(socket, text, () => answer.toString('latin1', 0, head + 4 + length))
    })
    idle.push(socket)
  }
  for (let opened = 0; opened < connections; opened += 100)
    await Promise.all(Array.from({ length: Math.min(100, connections - opened) }, open))

  const take = (now: number): { readonly request: Buffer; readonly madeAt: number } => {
    for (let known = again.shift(); known; known = again.shift()) if (now - known.madeAt < FRESH_MS) return known
    return { request: next(), madeAt: now }
  }
  const memory: number[] = []
  const began = performance.now()
  let renewedAt = began
  let sampledAt = began
  while (performance.now() - began < seconds * 1000) {
    const now = performance.now()
    while (sent < ((now - began) * rate) / 1000) {
      // In turn: one that idles for a minute is closed by the service, perhaps just when it is written to.
      const socket = idle.shift()
      if (!socket) break
      const due = began + (sent * 1000) / rate
      busy.set(socket, { ...take(now), due })
      socket.write(busy.get(socket)!.request)
      sent += 1
      if (performance.now() - now > 5) break // answers are to be read between
    }
    if (now - sampledAt >= 1000) {
      sampledAt = now
      memory.push(residentOf(site.pid))
    }
    if (now - renewedAt >= RENEW_MS) {
      renewedAt = now
      void preparation(site, 'steady').then((fresh) => {
        next = fresh
      })
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  const elapsed = (performance.now() - began) / 1000
  over = true
  for (const socket of [...idle, ...busy.keys()]) socket.destroy()
  return {
    offeredPerSecond: sent / elapsed,
    servedPerSecond: times.served.length / elapsed,
    shedPerSecond: times.shed.length / elapsed,
    shedSilently,
    otherAnswers,
    shedAs,
    ...(firstOther === undefined ? {} : { firstOther }),
    served: quantiles(times.served),
    shed: quantiles(times.shed),
    memory,
  }
}

function quantiles(list: number[]): { readonly p50: number; readonly p99: number } {
  list.sort((a, b) => a - b)
  const at = (share: number) => list[Math.floor(list.length * share)] ?? 0
  return { p50: at(0.5), p99: at(0.99) }
}
