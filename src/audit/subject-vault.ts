/**
 * A key per subject for the log: what names a person rests only under it, so erasing it erases the person.
 *
 * The key is found in two ways, and both end with it: by a reference (a keyed hash of the subject under a key of the
 * service), and by the hash that records carry (a keyed hash of the subject under the subject's own key, which tells
 * nothing to whoever holds the service's keys but not this one).
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  randomBytes,
  randomFillSync,
} from 'node:crypto'
import type { SubjectKeys } from './subject-keys.ts'

const IV_BYTES = 12
const TAG_BYTES = 16

export interface SubjectSeal {
  /** What a record shows of the subject. */
  readonly hash: string
  /** AES-256-GCM under the subject's key; `context` must be the same when opening. */
  seal(text: string, context: string): string
  /** Undefined where it does not open. */
  open(sealed: string, context: string): string | undefined
}

/** `erased`: the subject's key was erased, and no new one is made. */
export type Subject = SubjectSeal | 'erased'

export interface SubjectVault {
  /** What is remembered, at once; undefined where `of` must be asked. */
  peek(subject: string): Subject | undefined
  /** Makes the key at first sight; durable before it resolves. */
  of(subject: string): Promise<Subject>
  /** The hash records carry for `subject`; undefined where it was never seen, or was erased. */
  hashOf(subject: string): Promise<string | undefined>
  /** By the hash in a record, asking the store each time: an erasure holds at once. */
  byHash(hash: string): Promise<SubjectSeal | undefined>
  /** False where there was nothing to erase; the subject gets no key afterwards either way. */
  erase(subject: string): Promise<boolean>
}

export interface SubjectVaultDeps {
  readonly keys: SubjectKeys
  /** 32 bytes derived from the root key for this purpose alone. */
  readonly referenceKey: Uint8Array
  /** Sealing under the root key. */
  readonly seal: (bytes: Uint8Array) => string
  readonly open: (sealed: string) => Uint8Array
  /** Unix milliseconds. */
  readonly now: () => number
  readonly maxRemembered?: number
  /** How long another replica's erasure may go unseen when writing. */
  readonly rememberMs?: number
}

export function createSubjectVault(deps: SubjectVaultDeps): SubjectVault {
  const { keys, seal, open, now, maxRemembered = 10_000, rememberMs = 60_000 } = deps
  const referenceKey = createSecretKey(deps.referenceKey)
  const newIv = ivSource()
  const remembered = new Map<string, { readonly subject: Subject; readonly until: number }>()
  const asking = new Map<string, Promise<Subject>>()

  const reference = (subject: string) => `s_${createHmac('sha256', referenceKey).update(subject).digest('base64url')}`
  const byHashRef = (hash: string) => `h_${hash}`

  const remember = (name: string, subject: Subject) => {
    remembered.delete(name)
    if (remembered.size >= maxRemembered) {
      const oldest = remembered.keys().next()
      if (!oldest.done) remembered.delete(oldest.value)
    }
    remembered.set(name, { subject, until: now() + rememberMs })
    return subject
  }

  const ask = async (name: string): Promise<Subject> => {
    const sealed = await keys.obtain(reference(name), () => seal(randomBytes(32)))
    if (sealed === undefined) return 'erased'
    const key = open(sealed)
    const subject = sealUnder(key, hashUnder(key, name), newIv)
    // The second way must exist before the first record that needs it.
    const second = await keys.obtain(byHashRef(subject.hash), () => seal(key))
    return second === undefined ? 'erased' : subject
  }

  return {
    peek: (name) => {
      const it = remembered.get(name)
      if (it === undefined || it.until <= now()) return undefined
      return it.subject
    },
    of: (name) => {
      const pending = asking.get(name)
      if (pending !== undefined) return pending
      const asked: Promise<Subject> = ask(name)
        .then((subject) => (asking.get(name) === asked ? remember(name, subject) : subject))
        .finally(() => {
          if (asking.get(name) === asked) asking.delete(name)
        })
      asking.set(name, asked)
      return asked
    },
    hashOf: async (name) => {
      const sealed = await keys.find(reference(name))
      return sealed === undefined ? undefined : hashUnder(open(sealed), name)
    },
    byHash: async (hash) => {
      const sealed = await keys.find(byHashRef(hash))
      return sealed === undefined ? undefined : sealUnder(open(sealed), hash, newIv)
    },
    erase: async (name) => {
      const sealed = await keys.find(reference(name))
      // By hash first: a crash in between leaves the reference, from which erasing can be finished.
      if (sealed !== undefined) await keys.erase(byHashRef(hashUnder(open(sealed), name)))
      const erased = await keys.erase(reference(name))
      asking.delete(name)
      remembered.delete(name)
      return erased
    },
  }
}

const derive = (key: Uint8Array, purpose: string) => createHmac('sha256', key).update(purpose).digest()

const hashUnder = (key: Uint8Array, subject: string): string =>
  createHmac('sha256', derive(key, 'errand audit subject')).update(subject).digest('base64url').slice(0, 22)

/** Random IVs, drawn many at a time: one call each costs as much as the encryption. */
function ivSource(): () => Buffer {
  const pool = Buffer.allocUnsafe(IV_BYTES * 256)
  let used = pool.length
  return () => {
    if (used === pool.length) {
      randomFillSync(pool)
      used = 0
    }
    used += IV_BYTES
    return pool.subarray(used - IV_BYTES, used)
  }
}

function sealUnder(key: Uint8Array, hash: string, newIv: () => Buffer): SubjectSeal {
  const sealing: KeyObject = createSecretKey(derive(key, 'errand audit seal'))
  return {
    hash,
    seal: (text, context) => {
      const iv = newIv()
      const cipher = createCipheriv('aes-256-gcm', sealing, iv)
      cipher.setAAD(Buffer.from(context, 'utf8'))
      const body = cipher.update(text, 'utf8')
      cipher.final()
      return Buffer.concat([iv, body, cipher.getAuthTag()]).toString('base64url')
    },
    open: (sealed, context) => {
      const bytes = Buffer.from(sealed, 'base64url')
      if (bytes.length < IV_BYTES + TAG_BYTES) return undefined
      const cipher = createDecipheriv('aes-256-gcm', sealing, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
      cipher.setAAD(Buffer.from(context, 'utf8'))
      cipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES))
      try {
        const text = cipher.update(bytes.subarray(IV_BYTES, bytes.length - TAG_BYTES), undefined, 'utf8')
        return text + cipher.final('utf8')
      } catch {
        return undefined
      }
    },
  }
}
