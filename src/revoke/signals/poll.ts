/**
 * Fetches signals of identity providers that do not push them (RFC 8936): one request at a time for each, with what was
 * done since the last one acknowledged in it. What could not be carried out is not acknowledged, and comes again.
 */
import { isJsonObject, parseStrictJson } from '@errand/verifier/strict-json.ts'
import type { Receive } from './receive.ts'
import { type Source, setErrorOf } from './security-event.ts'
import type { SetFault } from './words.ts'

/** As `config/guarded-request.ts` sends it. */
export type Post = (request: {
  readonly uri: string
  readonly body: { readonly type: string; readonly text: string }
  readonly headers: Readonly<Record<string, string>>
}) => Promise<{ readonly status: number; readonly text: string }>

const MAX_EVENTS = 32
const LONGEST_WAIT_SECONDS = 300

interface State {
  nextAt: number
  failures: number
  acks: string[]
  faults: Record<string, SetFault>
}

export function createSignalPolls(deps: {
  readonly sources: () => readonly Source[]
  readonly post: Post
  readonly receive: Receive
  readonly now: () => number
  /** Told once when it begins to fail, and once when it works again. */
  readonly onProblem: (issuer: string, problem: string | undefined) => void
}): { poll(): Promise<void> } {
  const states = new Map<string, State>()

  async function pollOne(source: Source, state: State): Promise<void> {
    const { poll } = source.signals
    if (!poll) return
    const { acks, faults } = state
    const body = {
      maxEvents: MAX_EVENTS,
      returnImmediately: true,
      ...(acks.length === 0 ? {} : { ack: acks }),
      ...(Object.keys(faults).length === 0 ? {} : { setErrs: faults }),
    }
    const { status, text } = await deps.post({
      uri: poll.url,
      body: { type: 'application/json', text: JSON.stringify(body) },
      headers: poll.bearer === undefined ? {} : { authorization: `Bearer ${poll.bearer}` },
    })
    if (status !== 200) throw new Error(`status ${status}`)
    const answer = parseStrictJson(text, { integersOnly: false })
    if (!answer.ok || !isJsonObject(answer.value)) throw new Error('the answer is no JSON object')
    const { sets, moreAvailable } = answer.value
    if (!isJsonObject(sets)) throw new Error('the answer has no sets')
    state.acks = []
    state.faults = {}
    for (const [jti, token] of Object.entries(sets).slice(0, MAX_EVENTS)) {
      const received = await deps.receive(String(token), source)
      // Neither taken nor refused: it comes again, with what follows it.
      if (!received.ok && received.refusal.reason === 'rate_limited') break
      if (received.ok && received.value === jti) state.acks.push(jti)
      else if (received.ok) state.faults[jti] = { err: 'invalid_request', description: 'its jti is another' }
      else state.faults[jti] = { err: setErrorOf(received.refusal.reason), description: received.refusal.reason }
    }
    // What was received is acknowledged soon, also where nothing more waits.
    const more = moreAvailable === true || state.acks.length > 0 || Object.keys(state.faults).length > 0
    state.nextAt = deps.now() + (more ? 1 : poll.intervalSeconds)
    if (state.failures > 0) deps.onProblem(source.name, undefined)
    state.failures = 0
  }

  return {
    async poll() {
      const due = deps.sources().filter(({ signals }) => signals.poll !== undefined)
      await Promise.all(
        due.map(async (source) => {
          const now = deps.now()
          const state = states.get(source.name) ?? { nextAt: now, failures: 0, acks: [], faults: {} }
          states.set(source.name, state)
          const interval = source.signals.poll!.intervalSeconds
          // A clock that was set back must not make it wait until then.
          if (now < state.nextAt && state.nextAt - now <= LONGEST_WAIT_SECONDS + interval) return
          try {
            await pollOne(source, state)
          } catch (error) {
            if (state.failures === 0) deps.onProblem(source.name, error instanceof Error ? error.message : 'no answer')
            state.failures += 1
            state.nextAt = deps.now() + Math.min(LONGEST_WAIT_SECONDS, interval * 2 ** Math.min(state.failures, 10))
          }
        }),
      )
    },
  }
}
