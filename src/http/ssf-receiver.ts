/** What every endpoint of the Shared Signals Framework needs: whose request it is, which stream is meant, and a record. */
import { z } from 'zod'
import { type Result, ok, refuse } from '../oauth/refusal.ts'
import type { SignalStream } from '../revoke/signals/streams.ts'
import type { Receiver } from '../revoke/signals/transmit.ts'
import type { Call } from './route.ts'

export const METHOD = { push: 'urn:ietf:rfc:8935', poll: 'urn:ietf:rfc:8936' } as const
export const NO_STORE = { 'Cache-Control': 'no-store' }

export const streamId = z.string().max(64)
export const text = z.string().max(1024)

export const baseOf = ({ deps }: Call): string => deps.snapshot().settings.issuer.replace(/\/$/, '')

/** Every route but that of the metadata is for receivers alone. */
export function receiverOf({ caller }: Call): Receiver {
  if (caller?.kind !== 'receiver') throw new Error('a route of receivers without one')
  return caller.client
}

export const notFound = refuse('not_found', 'request', { proven: true })

export async function streamOf(call: Call, id: string | undefined): Promise<Result<SignalStream>> {
  const stream = id === undefined ? undefined : await call.deps.signalStreams.get(id)
  return stream?.receiver === receiverOf(call).clientId ? ok(stream) : notFound
}

export const bad = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })

/** Recorded: who changed what is told to whom. */
export const noted = (call: Call, details: { readonly [name: string]: string }) =>
  call.deps.audit.append({
    type: 'signal.stream',
    by: receiverOf(call).clientId,
    correlation: call.wire.correlation,
    details,
  })
