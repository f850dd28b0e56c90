/** `errand doctor --agent`: from where an agent runs, whether it can prove what it is, and what it would be given. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Fetch } from '@errand/verifier/http.ts'
import { type PrivateJwk, generatePrivateJwk, readPrivateJwkFile } from '../keys/private-jwk.ts'
import { GRANT, TOKEN_TYPE } from '../oauth/words.ts'
import { type Cli, CliError } from './cli.ts'
import { type Client, createClient, type Service } from './client.ts'
import { type Finding, good, weak, wrong } from './doctor-finding.ts'
import { placesOf } from './places.ts'
import { objects, text } from './rows.ts'

export interface AgentCase {
  readonly agent: string
  readonly keyFile?: string | undefined
  readonly tool?: string | undefined
  readonly userToken?: string | undefined
}

/** The key, as it lies on the disk. */
export async function ownKey(
  cli: Cli,
  path: string,
): Promise<{ readonly key?: PrivateJwk; readonly finding: Finding }> {
  try {
    const key = await readPrivateJwkFile(path)
    return { key, finding: good('key_file', `the key in ${path} is for its owner alone, kid ${key.kid}`) }
  } catch (error) {
    const [what = '', ...mend] = (error as Error).message.split(': ')
    return {
      finding: wrong(
        'key_file',
        what,
        mend.join(': ') || `put the key there, or name it: --key-file (ERRAND_KEYS is ${placesOf(cli).keysDir})`,
      ),
    }
  }
}

export const agentKeyPath = (cli: Cli, { agent, keyFile }: AgentCase): string =>
  keyFile ?? join(placesOf(cli).keysDir, 'agents', `${agent}.jwk`)

export async function agentFindings(
  cli: Cli,
  service: Service,
  key: PrivateJwk,
  it: AgentCase,
): Promise<readonly Finding[]> {
  let nonces = 0
  const fetch: Fetch = async (url, init) => {
    const answer = await cli.fetch(url, init)
    if (answer.headers.get('dpop-nonce') !== null) nonces++
    return answer
  }
  const proofKey = await generatePrivateJwk('proof-')
  const client = createClient({ ...cli, fetch }, service, { clientId: it.agent, key, proofKey })
  const attested = await attestation(client, it.agent)
  const findings = [attested]
  if (attested.level !== 'good') return findings
  findings.push(
    nonces > 0
      ? good('proof', 'its proofs of possession are taken, with the service’s nonce')
      : weak(
          'proof_without_nonce',
          'the service gives no nonces: a proof made in advance works for as long as it is fresh',
          'dpop.require_nonce: true in errand.yaml',
        ),
  )
  if (it.tool !== undefined) findings.push(...(await wouldBeGiven(client, it, it.tool)))
  return findings
}

/** Asks for a task that nobody has: who has proven who it is learns that there is none. */
async function attestation(client: Client, agent: string): Promise<Finding> {
  try {
    await client.get(`/tasks/task_${randomBytes(16).toString('base64url')}`)
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    if (error.code !== 'not_found')
      return wrong(
        'not_attested',
        `the service does not take it for ${agent} (${error.message.replace(/^refused: /, '')})`,
        `is ${agent} registered and enabled, and the public half of this key its keys_file? errand audit search --agent ${agent} says why, to the administrator`,
      )
  }
  return good('attested', `the service takes it for ${agent}`)
}

async function wouldBeGiven(client: Client, { userToken }: AgentCase, tool: string): Promise<readonly Finding[]> {
  const details = {
    purpose: 'errand doctor',
    environment: 'development',
    data_classification: 'internal',
    deadline_seconds: 60,
  }
  try {
    const answer = await client.form('/token', {
      ...(userToken === undefined
        ? { grant_type: GRANT.clientCredentials }
        : { grant_type: GRANT.exchange, subject_token: userToken, subject_token_type: TOKEN_TYPE.idToken }),
      audience: tool,
      request_details: JSON.stringify(details),
      dry_run: 'true',
    })
    const verdicts = objects(answer['verdicts'])
    const name = (verdict: (typeof verdicts)[number]) =>
      `${text(verdict['tool']) ?? ''}:${text(verdict['operation']) ?? ''}`
    const permitted = verdicts.filter((verdict) => verdict['permitted'] === true)
    const lost = verdicts.filter((verdict) => verdict['permitted'] !== true)
    return [
      permitted.length > 0
        ? good('would_be_given', `it would be given ${permitted.map(name).join(' ')}`)
        : weak(
            'would_be_given_nothing',
            `it would be given nothing for ${tool}`,
            text(lost[0]?.['least_change']) ?? 'errand explain tells each operand',
          ),
      ...lost
        .slice(0, 5)
        .map((verdict) =>
          good('would_not_be_given', `not ${name(verdict)}: lost at ${text(verdict['lost_at']) ?? 'policy'}`),
        ),
    ]
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    const next = error.hints.find((hint) => hint.startsWith('next: '))?.slice('next: '.length)
    return [
      weak(
        'would_be_refused',
        `for ${tool} it would be refused (${error.message.replace(/^refused: /, '')})`,
        next ??
          (userToken === undefined
            ? 'with a user it may be another matter: --subject-token-file'
            : 'errand explain tells why'),
      ),
    ]
  }
}
