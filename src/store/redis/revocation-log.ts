/** The revocation log in Redis: one order for all replicas, and one step for each question. */
import { compareEpochs, type Epoch, parseEpoch } from '@errand/verifier/epoch.ts'
import { type HopFacts, type Shape, shapeOf, shapeText } from '@errand/verifier/shapes.ts'
import { Unavailable } from '../../oauth/refusal.ts'
import type { NewRevocation, Revocation, RevocationLog } from '../../revoke/revocation-log.ts'
import { type Sealed, sealedBy } from '../../revoke/seals.ts'
import type { Contained, RevocationCheck } from '../../tokens/revocations.ts'
import { banInForce, changedTasks, keepsOut, MAX_CONJUNCTIONS, tell } from '../revocations.ts'
import type { Ledger, Lifted } from '../ledger.ts'
import { type RedisClient, type Reply, type Run, short, unexpected } from './client.ts'
import { ADD, CHECK, EPOCH, GET, MARK, PAGE, PRUNE, READMIT } from './revocation-scripts.ts'

const CHANNEL = 'rev:added'
const PAGE_SIZE = 500

export async function createRevocationLog(deps: {
  redis: RedisClient
  ledger: Ledger
  now: () => number
  forgetBefore: () => number
}): Promise<RevocationLog> {
  const { redis, now, forgetBefore, ledger } = deps
  const listeners = new Set<(entry: Revocation) => void>()
  const moved = new Set<() => void>()
  /** The shapes that a check has to send values for; the script says so when they are not the live ones. */
  let shapes: { readonly version: string; readonly list: readonly Shape[] } = { version: '0', list: [] }
  /** The furthest place this replica has seen: an answer below it comes from a Redis that went back in time. */
  let seen: Epoch = { generation: redis.generation().number, sequence: 0 }
  let told = 0
  let telling: Promise<void> | undefined
  let again = false

  /** Replies may overtake one another here, but an answer asked for after `floor` was known cannot lie below it. */
  async function readEpoch(): Promise<Epoch> {
    const floor = seen
    const place = placeIn(await redis.run(EPOCH, []))
    advance(place, floor)
    return place
  }

  function advance(place: Epoch, floor: Epoch = place): void {
    if (compareEpochs(place, floor) < 0) {
      redis.distrust('went_back')
      throw new Unavailable('sealed', 'Redis went back in time: entries it acknowledged are gone')
    }
    if (compareEpochs(place, seen) > 0) seen = place
    if (place.sequence > told) hear()
  }

  async function page(index: 'order' | 'open', from: number): Promise<readonly Revocation[]> {
    const found: Revocation[] = []
    for (let after: string | number = from; ; ) {
      const reply: Reply = await redis.run(PAGE, [index, after, PAGE_SIZE])
      if (reply[0] !== 'page' || reply[1] === undefined) throw unexpected(reply)
      found.push(...toRevocations(['entries', ...reply.slice(2)]))
      if (reply[1] === '') return found
      after = reply[1]
    }
  }

  /** Messages only say that there is something: what is told is read from the log, in order and without gaps. */
  function hear(): void {
    if (listeners.size === 0) {
      told = seen.sequence
      return
    }
    if (telling) {
      again = true
      return
    }
    telling = catchUp()
      // Away: the next message, check or reconnect asks again.
      .catch(() => undefined)
      .finally(() => {
        telling = undefined
        if (again) {
          again = false
          hear()
        }
      })
  }

  async function catchUp(): Promise<void> {
    const until = placeIn(await redis.run(EPOCH, [])).sequence
    for (const entry of await page('order', told)) {
      told = entry.epoch.sequence
      // Each process holds what it has heard of: one that is lost takes nothing with it.
      ledger
        .keep(entryOf(entry))
        .then(() => ledger.held(entry.id, entry.epoch))
        .catch(() => undefined)
      for (const listener of listeners) tell(listener, entry)
    }
    // A mark, or entries that expired meanwhile.
    if (until > told) for (const listener of moved) tell(listener, undefined)
    told = Math.max(told, until)
  }

  async function ask(question: RevocationCheck): Promise<{ readonly reply: Reply; readonly list: readonly Shape[] }> {
    const { hops, issuing } = question
    // The live shapes can change between the answer and the next try, but not for ever.
    for (let attempt = 0; attempt < 10; attempt++) {
      const { version, list } = shapes
      const fields = (facts: HopFacts): readonly string[] => list.map((shape) => fieldOf(shape, facts))
      const values: (string | number)[] = [now(), version, list.length, hops.length, issuing ? 1 : 0]
      for (const { rev, facts } of hops) values.push(rev.generation, rev.sequence, ...fields(facts))
      if (issuing) values.push(...fields(issuing))
      const reply = await redis.run(CHECK, values)
      if (reply[0] === 'sealed') throw sealedBy(JSON.parse(reply[1] ?? '{}') as Sealed)
      if (reply[0] !== 'shapes') return { reply, list }
      const [, current, ...live] = reply
      if (current === undefined) throw unexpected(reply)
      shapes = { version: current, list: live }
    }
    throw new Unavailable('store_unavailable', 'the shapes of the revocation log do not settle')
  }

  seen = await readEpoch()
  told = seen.sequence
  // What was given back stands at new places: it is told again, and so is what took a lost one's place.
  redis.onOpened(({ number, base }) => {
    seen = { generation: number, sequence: base }
    told = Math.min(told, base)
    hear()
  })
  await redis.listen(CHANNEL, hear)

  return {
    check: async (question) => {
      const floor = seen
      const { reply, list } = await ask(question)
      const [word, , deadEntry, hop, bannedEntry, shape, suspended, ...contained] = reply
      if (word !== 'checked' || reply.length < 7) throw unexpected(reply)
      const epoch = placeIn(reply)
      advance(epoch, floor)
      const matched = list[Number(shape) - 1]
      return {
        epoch,
        ...(deadEntry ? { dead: { entry: deadEntry, hop: Number(hop) } } : {}),
        ...(bannedEntry
          ? {
              banned: {
                entry: bannedEntry,
                dimensions: matched ? matched.split('+') : [],
                ...(suspended ? { suspended: true } : {}),
              },
            }
          : {}),
        ...(contained.length > 0 ? { contained: toContained(contained) } : {}),
      }
    },
    add: async (entry) => {
      // On a disk before anybody can see it: a token that was refused for it must not come back to life. The kill switch
      // works where that disk is full, too.
      await ledger.keep(entry).catch(() => undefined)
      const added = await addEntry(redis.run, entry)
      advance(added.entry.epoch)
      ledger.held(entry.id, added.entry.epoch).catch(() => undefined)
      return added
    },
    mark: async () => {
      const reply = await redis.run(MARK, [CHANNEL])
      if (reply[0] !== 'marked') throw unexpected(reply)
      const place = placeIn(reply)
      advance(place)
      ledger.reached(place).catch(() => undefined)
      return place
    },
    get: async (id) => toRevocations(await redis.run(GET, [id]))[0],
    after: async (epoch) => {
      const moment = forgetBefore()
      const entries = await page('order', epoch?.generation === redis.generation().number ? epoch.sequence : 0)
      return entries.filter(
        (entry) => moment < entry.expiresAt && (epoch === undefined || compareEpochs(entry.epoch, epoch) > 0),
      )
    },
    bans: async (moment) => (await page('open', 0)).filter((entry) => banInForce(entry, moment)),
    readmit: async (id, by, reason, moment) => {
      const done = await liftEntry(redis.run, { id, by, reason, at: moment })
      if (done) ledger.lifted({ id, by, reason, at: moment }).catch(() => undefined)
      return done
    },
    epoch: readEpoch,
    onAdded: (listener, moves) => {
      listeners.add(listener)
      if (moves) moved.add(moves)
      return () => {
        listeners.delete(listener)
        if (moves) moved.delete(moves)
      }
    },
    prune: async (moment) => {
      while ((await redis.run(PRUNE, [moment]))[0] === 'more');
      await ledger.prune(moment).catch(() => undefined)
    },
  }
}

/** Adds an entry, or answers the one of that id. */
export async function addEntry(
  run: Run,
  entry: NewRevocation,
): Promise<{ readonly entry: Revocation; readonly added: boolean }> {
  const shape = shapeOf(entry.match)
  const reply = await run(ADD, [
    entry.id,
    JSON.stringify(entry),
    shape,
    fieldOf(shape, entry.match),
    entry.absolute ? 'absolutes' : 'cuts',
    keepsOut(entry) ? '1' : '',
    entry.banUntil ?? '',
    entry.expiresAt,
    MAX_CONJUNCTIONS,
    CHANNEL,
    entry.mode === 'suspend' ? '1' : '',
    changedTasks(entry) ?? '',
    entry.before?.sequence ?? '',
    entry.before?.generation ?? '',
  ])
  if (reply[0] === 'full') {
    throw new Unavailable('overloaded', 'too many combinations of dimensions are being revoked by')
  }
  const [stored] = toRevocations(['entries', ...reply.slice(1)])
  if ((reply[0] !== 'added' && reply[0] !== 'known') || !stored) throw unexpected(reply)
  return { entry: stored, added: reply[0] === 'added' }
}

/** False where there is nothing to lift by that id. */
async function liftEntry(run: Run, { id, by, reason, at }: Lifted): Promise<boolean> {
  return (await run(READMIT, [id, at, JSON.stringify({ at, by, reason })]))[0] === 'done'
}

/** Of the generation that the question was asked of. */
function placeIn(reply: Reply): Epoch {
  const place = parseEpoch(reply[1])
  if (!place) throw unexpected(reply)
  return place
}

const entryOf = ({ epoch: _, readmitted: __, ...entry }: Revocation): NewRevocation => entry

/** Where an entry of this shape with these values stands in the indexes; empty where it cannot. */
function fieldOf(shape: Shape, facts: HopFacts): string {
  const text = shapeText(shape, facts)
  return text === undefined ? '' : `${shape}|${short(text)}`
}

/** Each is the entry and the revocation that it is, or closes. */
const toContained = (flat: readonly string[]): readonly Contained[] =>
  flat.flatMap((entry, index) => (index % 2 === 0 ? [{ entry, by: flat[index + 1] ?? entry }] : []))

function toRevocations(reply: Reply): readonly Revocation[] {
  if (reply[0] !== 'entries' || (reply.length - 1) % 4 !== 0) throw unexpected(reply)
  const found: Revocation[] = []
  for (let index = 1; index < reply.length; index += 4) {
    const [generation, sequence, body, readmitted] = reply.slice(index, index + 4)
    if (!body) throw unexpected(reply)
    found.push({
      ...(JSON.parse(body) as NewRevocation),
      epoch: { generation: Number(generation), sequence: Number(sequence) },
      ...(readmitted ? { readmitted: JSON.parse(readmitted) as NonNullable<Revocation['readmitted']> } : {}),
    })
  }
  return found
}
