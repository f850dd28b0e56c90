/** The keys of one issuer, each purpose with its own, and what is signed over the log. */
import { originOf } from './audit/checkpoint.ts'
import { createCheckpoints } from './audit/checkpoints.ts'
import type { Snapshot } from './config/snapshot.ts'
import { every } from './every.ts'
import { checkpointSigner } from './keys/checkpoint-signer.ts'
import { openKeyRing } from './keys/key-ring.ts'
import type { KeyPurpose } from './keys/key-store.ts'
import { isReceiver } from './revoke/signals/transmit.ts'
import { createHeldKeys } from './rotate/held-keys.ts'
import { createRotation, scheduleOf } from './rotate/rotate.ts'
import type { RoomDeps } from './rooms.ts'
import { openSigner } from './secrets/open-signer.ts'

const PURPOSES = ['token', 'feed', 'id_jag', 'txn_token', 'checkpoint', 'status'] as const
/** At least each second while records come; the timer may be late. */
const CHECKPOINT_EVERY_MS = 800

interface KeysDeps extends RoomDeps {
  readonly onFault: (error: unknown, where: string) => void
  /** A key was published. */
  readonly onPublished: () => void
  /** Whether what verifiers say to other replicas is known here. */
  readonly hearsAll: () => boolean
}

export async function openKeys({
  holder,
  stores,
  log,
  sealer,
  logger,
  now,
  monotonic,
  closing,
  onFault,
  onPublished,
  hearsAll,
}: KeysDeps) {
  const { settings, machines } = holder.current()
  const isEmbedded = settings.store.kind === 'embedded'
  // A key of RSA takes a while to make: only where somebody is to hear of security events.
  const told = machines.all.some(isReceiver)
  const purposes: readonly KeyPurpose[] = told ? [...PURPOSES, 'security_event'] : PURPOSES
  const signer = openSigner(settings.keys.signing, { fetch: globalThis.fetch, monotonic })
  if (signer) closing.push(() => signer.close())
  const ring = await openKeyRing({
    store: stores.keyStore,
    sealer,
    now,
    monotonic,
    purposes,
    announce: async ({ kid, purpose, from, to, cause, signer: madeBy }) => {
      await log.append({
        type: 'key.moved',
        by: 'system',
        details: {
          kid,
          purpose,
          to,
          cause,
          ...(from === undefined ? {} : { from }),
          ...(madeBy === undefined ? {} : { signer: madeBy }),
        },
      })
    },
    ...(isEmbedded ? { staleAfterSeconds: Number.POSITIVE_INFINITY } : {}),
    ...(signer ? { signer } : {}),
  })
  const heldKeys = createHeldKeys({ isPrepared: (kid) => ring.verifyKey(kid)?.state === 'prepared' })
  const rotation = createRotation({
    ring,
    schedule: scheduleOf({
      ...settings.keys,
      maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
      replicas: !isEmbedded,
    }),
    purposes,
    // What keys of other purposes sign is read by others too, who say nothing: relays, witnesses, other services.
    onPublished,
    held: ({ kid, purpose }) =>
      purpose === 'token' && hearsAll() && heldKeys.byAll(followersOf(holder.current()), kid, now()),
    now,
    onError: (error) => onFault(error, 'key rotation'),
  })
  closing.push(() => rotation.close())

  const origin = originOf(settings.issuer, log.logId)
  const checkpoints = createCheckpoints({
    logId: log.logId,
    origin,
    tree: log.tree,
    kept: log.checkpoints,
    ...checkpointSigner(ring, origin),
    onDamage: ({ kind, index, file, message }) =>
      logger.error({ kind, index, file }, `no checkpoint is signed any more: ${message}`),
  })
  const signing = every(CHECKPOINT_EVERY_MS, checkpoints.tick, (error) => onFault(error, 'checkpoint'))
  closing.push(async () => {
    await signing()
    // A last one, over all that was recorded: what stands in the folder then verifies to its end.
    await checkpoints.tick().catch(() => undefined)
  })
  return { ring, heldKeys, rotation, checkpoints }
}

/** Every tool, where each has a key by which it says what it holds; none where one cannot be heard. */
const followersOf = ({ tools, machines }: Snapshot): readonly string[] => {
  const heard = machines.all.flatMap(({ kind, clientId }) => (kind === 'tool' ? [clientId] : []))
  return heard.length === tools.all.length ? heard : []
}
