/** `/log`: the transparency log for whoever checks it. Hashes, signatures and proofs; no record. */
import { z } from 'zod'
import type { Signed } from '../audit/checkpoints.ts'
import { AuditDamage } from '../audit/damage.ts'
import { findDecision } from '../audit/explain.ts'
import { proveConsistency, proveInclusion } from '../audit/log-proof.ts'
import { rootAt } from '../audit/merkle.ts'
import { parseTilePath } from '../audit/tile.ts'
import { ok, type Result, refuse, Unavailable } from '../oauth/refusal.ts'
import { badParam, numbersIn } from './query.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const problems = errorAnswers(401, 403, 404, 429, 503)
const hash = z.string().describe('32 bytes in base64')
/** A checkpoint comes each second. */
const WAIT_MS = 3_000

const notFound = refuse('not_found', 'request', { proven: true })

/** Every question here: it is read, and answered or refused; a proof comes with the newest checkpoint where that is its tree. */
const asked =
  (answer: (call: Call) => Promise<Result<object>>): Route['handle'] =>
  async (call) => {
    const answered = await answer(call)
    return answered.ok ? Response.json(answered.value) : refused(call, answered.refusal)
  }

function newest({ deps }: Call): Signed {
  const signed = deps.checkpoints.newest()
  if (signed === undefined) throw new Unavailable('audit_unavailable', 'no checkpoint has been signed yet')
  return signed
}

/** Asking again helps once somebody has looked after it: the service log names the tile. */
const stored = <T>(reading: Promise<T>): Promise<T> =>
  reading.catch((error: unknown) => {
    throw error instanceof AuditDamage
      ? new Unavailable('audit_unavailable', 'a part of the stored tree is missing', { cause: error })
      : error
  })

const unproven = () => new Unavailable('audit_unavailable', 'the stored tree does not make the root that was signed')

const checkpointRoute: Route = {
  method: 'GET',
  path: '/log/checkpoint',
  access: ['agent', 'tool', 'admin'],
  tag: 'Transparency log',
  summary: 'The newest checkpoint: a signed note of origin, size and root hash (C2SP tlog-checkpoint)',
  answers: { 200: { description: 'A signed note', contentType: 'text/plain' }, ...problems },
  handle: (call) =>
    new Response(newest(call).note, {
      headers: { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' },
    }),
}

const tileRoute: Route = {
  method: 'GET',
  path: '/log/tile/:level/:tile{.+}',
  access: ['agent', 'tool', 'admin'],
  tag: 'Transparency log',
  summary: 'A tile of the tree (C2SP tlog-tiles): 256 hashes, or with .p/<W> the first W of one that is not full',
  answers: { 200: { description: 'Hashes, 32 bytes each', contentType: 'application/octet-stream' }, ...problems },
  async handle(call) {
    const { level = '', tile: place = '' } = call.c.req.param() as { readonly level?: string; readonly tile?: string }
    const tile = parseTilePath(`tile/${level}/${place}`)
    const bytes = tile && (await stored(call.deps.tree.tile(tile)))
    if (!bytes) return refused(call, notFound.refusal)
    return new Response(new Uint8Array(bytes), {
      headers: { 'Content-Type': 'application/octet-stream', 'Cache-Control': 'private, max-age=31536000, immutable' },
    })
  },
}

const proofRoute: Route = {
  method: 'GET',
  path: '/log/proof',
  access: ['agent', 'tool', 'admin'],
  tag: 'Transparency log',
  summary: 'That a record is in the log: its leaf hash, and the path to the root of a checkpoint (RFC 9162 §2.1.3)',
  query: {
    index: 'of the record, as answers of POST /token name it',
    jti: 'of a token, instead of index',
    size: 'of an earlier tree; the newest checkpoint where it is absent',
  },
  answers: {
    200: {
      description: 'The proof; with the checkpoint where no size was asked for',
      schema: z.object({
        log: z.string(),
        index: z.number().int(),
        leaf_hash: hash,
        size: z.number().int(),
        path: z.array(hash),
        checkpoint: z.string().optional(),
      }),
    },
    ...errorAnswers(400),
    ...problems,
  },
  handle: asked(async (call) => {
    const { deps } = call
    const jti = call.c.req.query('jti')
    const numbers = numbersIn(call, 'index', 'size')
    if (!numbers.ok) return numbers
    const { index, size } = numbers.value
    if ((index === undefined) === (jti === undefined)) return badParam('either index or jti')
    const at = jti === undefined ? index : (await findDecision(deps.reader, jti))?.i
    if (at === undefined || at >= deps.reader.size) return notFound
    const signed = await deps.checkpoints.covering(at, WAIT_MS)
    if (signed === undefined) throw new Unavailable('audit_unavailable', 'no checkpoint covers that record yet')
    const { checkpoint, note } = signed
    const of = size ?? checkpoint.size
    if (of <= at || of > checkpoint.size) return badParam(`size is above index, and at most ${checkpoint.size}`)
    const root = of === checkpoint.size ? checkpoint.root : await stored(rootAt(of, deps.tree.read))
    const proof = await stored(proveInclusion(deps.tree, deps.audit.logId, at, of, root))
    if (proof === undefined) throw unproven()
    return ok({ ...proof, ...(size === undefined ? { checkpoint: note } : {}) })
  }),
}

const consistencyRoute: Route = {
  method: 'GET',
  path: '/log/consistency',
  access: ['agent', 'tool', 'admin'],
  tag: 'Transparency log',
  summary: 'That the tree of one size is the beginning of that of another (RFC 9162 §2.1.4)',
  query: { from: 'the smaller size, at least 1', to: 'the larger one; the newest checkpoint where it is absent' },
  answers: {
    200: {
      description: 'The proof; with the checkpoint where no `to` was asked for',
      schema: z.object({
        log: z.string(),
        from: z.number().int(),
        to: z.number().int(),
        path: z.array(hash),
        checkpoint: z.string().optional(),
      }),
    },
    ...errorAnswers(400),
    ...problems,
  },
  handle: asked(async (call) => {
    const { deps } = call
    const signed = newest(call)
    const { size } = signed.checkpoint
    const numbers = numbersIn(call, 'from', 'to')
    if (!numbers.ok) return numbers
    const { from = 0, to } = numbers.value
    const until = to ?? size
    if (from < 1 || from > until || until > size)
      return badParam(`from is at least 1, to is at least from and at most ${size}`)
    const proof = await stored(proveConsistency(deps.tree, deps.audit.logId, from, until, signed))
    if (proof === undefined) throw unproven()
    return ok({ ...proof, ...(to === undefined ? { checkpoint: signed.note } : {}) })
  }),
}

export const logRoutes: readonly Route[] = [checkpointRoute, tileRoute, proofRoute, consistencyRoute]
