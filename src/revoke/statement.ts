/** Statements of "now": the answer to a follower's nonce, from which it computes how old its state can be. */
import { type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import { TYP } from '../oauth/words.ts'

/** As many nonces as fit under one signature without making the statement long. */
export const MAX_NONCES = 256
/** 16 to 64 characters of base64url: at least 96 bits, so nobody meets another's. */
const NONCE = /^[A-Za-z0-9_-]{16,64}$/

export const isNonce = (text: unknown): text is string => typeof text === 'string' && NONCE.test(text)

export interface StatementDeps {
  /** Stamp first, epoch second, in one step. */
  readonly position: () => Promise<{ readonly s: number; readonly epoch: Epoch }>
  readonly run: string
  readonly issuer: string
  readonly now: () => number
  readonly sign: (typ: string, payload: object) => Promise<{ readonly jws: string }>
}

export interface Statements {
  /** A compact JWS over these nonces, perhaps among others; undefined where one is no nonce (`isNonce`), or too many. */
  statement(...nonces: readonly string[]): Promise<string | undefined>
}

interface Batch {
  readonly nonces: Set<string>
  readonly made: Promise<string>
}

export function createStatements({ position, run, issuer, now, sign }: StatementDeps): Statements {
  /** The batch that still takes nonces; it is closed before its stamp is taken, so every nonce in it is older. */
  let open: Batch | undefined
  let busy: Promise<unknown> = Promise.resolve()

  function openBatch(): Batch {
    const nonces = new Set<string>()
    const batch: Batch = {
      nonces,
      made: busy.then(async () => {
        if (open === batch) open = undefined
        const { s, epoch } = await position()
        const payload = { iss: issuer, run, s, epoch: formatEpoch(epoch), nonces: [...nonces], time: Math.floor(now()) }
        return (await sign(TYP.statement, payload)).jws
      }),
    }
    busy = batch.made.catch(() => undefined)
    return batch
  }

  return {
    statement: async (...nonces) => {
      if (nonces.length === 0 || nonces.length > MAX_NONCES || !nonces.every(isNonce)) return undefined
      if (!open || open.nonces.size + nonces.length > MAX_NONCES) open = openBatch()
      for (const nonce of nonces) open.nonces.add(nonce)
      return open.made
    },
  }
}
