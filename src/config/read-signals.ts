/** `signals` of an issuer's file: whence its security events come. */
import type { SignalSource, TrustedIssuer } from '../tokens/trusted-issuer.ts'
import { urlProblem } from './addresses.ts'
import type { UserIssuerFile } from './issuer-file.ts'
import { type KeysContext, readIssuerKeys } from './issuer-keys.ts'
import type { Reporter } from './reporter.ts'

const BEARER = /^[A-Za-z0-9._~+/-]+=*$/ // RFC 6750 §2.1

export async function readSignals(
  { name, issuer, algorithms, signals: source }: UserIssuerFile,
  ownKeys: TrustedIssuer['keys'],
  context: KeysContext,
): Promise<SignalSource | undefined> {
  if (source === undefined) return undefined
  const { development, keyFiles } = context
  const report: Reporter = (path, ...problem) => context.report(['signals', ...path], ...problem)
  const transmitter = source.transmitter ?? issuer
  const fault = urlProblem(transmitter, { development })
  if (fault !== undefined) report(['transmitter'], 'url_forbidden', `the transmitter ${transmitter} ${fault}`)
  const hasKeys = source.jwks_file !== undefined || source.jwks_uri !== undefined
  const own = { name, ...source, algorithms: source.algorithms ?? algorithms }
  const keys = hasKeys ? await readIssuerKeys(own, { ...context, report }) : ownKeys
  if ((source.delivery === 'poll') !== (source.poll !== undefined))
    report(
      ['delivery'],
      source.poll ? 'bad_value' : 'missing_key',
      'poll says where events are fetched, with delivery: poll',
    )

  let poll: SignalSource['poll']
  if (source.poll !== undefined) {
    const { url, token_file: tokenFile, interval_seconds: intervalSeconds } = source.poll
    const problem = urlProblem(url, { development })
    if (problem !== undefined) report(['poll', 'url'], 'url_forbidden', `the poll endpoint ${url} ${problem}`)
    const token = tokenFile === undefined ? undefined : await keyFiles.text(tokenFile)
    if (token && !token.ok) report(['poll', 'token_file'], token.code, token.message, token.suggestion)
    const bearer = token?.ok ? token.value.trim() : undefined
    if (bearer !== undefined && !BEARER.test(bearer))
      report(['poll', 'token_file'], 'bad_value', `${tokenFile} holds no bearer token`)
    poll = { url, intervalSeconds, ...(bearer === undefined ? {} : { bearer }) }
  }
  return {
    transmitter,
    keys,
    algorithms: own.algorithms,
    ...(source.audience === undefined ? {} : { audience: source.audience }),
    ...(poll === undefined ? {} : { poll }),
  }
}
