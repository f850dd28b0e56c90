/** Three opinions on one chain, as evidence of a client: ours, that of OpenSSL, that of pkijs. */
import '../pki.ts'
import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Certificate, CertificateChainValidationEngine, CryptoEngine, setEngine } from 'pkijs'
import { createTlsClientAuth } from '../../../src/attest/tls-client-auth.ts'
import { readExpectedName } from '../../../src/attest/x509/expected-name.ts'
import { agent } from '../house.ts'
import { NOW, pemOf } from '../pki.ts'
import { type Chain, LEAF_URI } from './chains.ts'

export interface Opinion {
  readonly accepts: boolean
  readonly why: string
}

/** As the evidence of an agent that is registered by the URI which every leaf has. */
export async function ours({ root, intermediates, leaf }: Chain): Promise<Opinion> {
  const read = readExpectedName('san_uri', LEAF_URI)
  if (!read.ok) throw new Error(read.problem)
  const tlsClientAuth = { anchors: [root], name: read.name }
  const registered = agent('research', { evidence: ['tls_client_auth'], tlsClientAuth })
  const { verify } = createTlsClientAuth({ now: () => NOW, agents: { byClientId: () => registered } })
  const result = await verify({ slot: 'client', chain: [leaf, ...intermediates], clientId: 'research' })
  return { accepts: result.ok, why: result.ok ? '' : result.refusal.reason }
}

export function hasOpenssl(): boolean {
  try {
    return /^OpenSSL 3\./.test(execFileSync('openssl', ['version'], { encoding: 'utf8' }))
  } catch {
    return false
  }
}

/** `-x509_strict`: RFC 5280 as it is written, and not what has been tolerated for long. Several at once: most is starting. */
export async function openssl(chains: readonly Chain[]): Promise<readonly Opinion[]> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-chains-'))
  const judge = async ({ root, intermediates, leaf }: Chain, index: number): Promise<Opinion> => {
    const file = (name: string) => join(folder, `${index}.${name}.pem`)
    const write = (name: string, all: readonly Uint8Array[]) =>
      writeFile(file(name), all.map((der) => pemOf({ der })).join(''))
    await Promise.all([write('root', [root]), write('between', intermediates), write('leaf', [leaf])])
    const between = intermediates.length === 0 ? [] : ['-untrusted', file('between')]
    const args = [
      'verify',
      '-x509_strict',
      '-attime',
      String(NOW),
      '-purpose',
      'sslclient',
      '-no-CApath',
      '-no-CAstore',
    ]
    return new Promise((done) => {
      execFile('openssl', [...args, '-CAfile', file('root'), ...between, file('leaf')], (error, stdout, stderr) =>
        done({ accepts: error === null, why: /error \d+ at.*/.exec(stdout + stderr)?.[0] ?? stderr.split('\n')[0]! }),
      )
    })
  }
  try {
    const opinions: Opinion[] = []
    for (let i = 0; i < chains.length; i += 16) {
      opinions.push(...(await Promise.all(chains.slice(i, i + 16).map((chain, n) => judge(chain, i + n)))))
    }
    return opinions
  } finally {
    await rm(folder, { recursive: true })
  }
}

export async function pkijs({ root, intermediates, leaf }: Chain): Promise<Opinion> {
  setEngine('node', new CryptoEngine({ name: 'node', crypto: globalThis.crypto }))
  const read = (der: Uint8Array) => Certificate.fromBER(Uint8Array.from(der))
  try {
    const engine = new CertificateChainValidationEngine({
      trustedCerts: [read(root)],
      // The one in question comes last.
      certs: [...intermediates, leaf].map(read),
      checkDate: new Date(NOW * 1000),
    })
    const { result, resultMessage } = await engine.verify()
    return { accepts: result, why: resultMessage }
  } catch (error) {
    return { accepts: false, why: (error as Error).message }
  }
}
