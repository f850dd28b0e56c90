/** Whether Vault would sign what it is named for, and whether its keys stay in it. */
import type { SigningSource } from '../config/signing-source.ts'
import { lookAtTransit, type TransitLook } from '../secrets/vault/transit-look.ts'
import type { Cli } from './cli.ts'
import { type Finding, good, weak, wrong } from './doctor-finding.ts'

export async function signingFindings(
  source: SigningSource,
  { fetch }: Pick<Cli, 'fetch'>,
): Promise<readonly Finding[]> {
  const { host } = new URL(source.vault_transit.address)
  const looks = await lookAtTransit(source.vault_transit, { fetch, monotonic: () => performance.now() })
  if (typeof looks === 'string')
    return [wrong('signer_away', `Vault at ${host} cannot be asked: ${looks}`, 'look at keys.signing of errand.yaml')]
  const spare = [...new Set(looks.flatMap((look) => look.spare))]
  return [
    ...looks.flatMap(findingsOf),
    ...(spare.length === 0
      ? []
      : [
          weak(
            'signer_login_broad',
            `the login at Vault may do more than it needs: ${spare.join(', ')}`,
            'give it the policy that docs/keys.md shows',
          ),
        ]),
  ]
}

function findingsOf({ purpose, key, found, lacks }: TransitLook): readonly Finding[] {
  const name = `${key.mount}/${key.key}`
  const denied = lacks.map((each) =>
    wrong('signer_login_lacks', `the login at Vault may not ${each}`, 'give it the policy that docs/keys.md shows'),
  )
  if (typeof found === 'string')
    return [wrong('signing_key_unfit', `${purpose} cannot be signed: ${found}`, `look at ${name} in Vault`), ...denied]
  const stands = `${purpose} is signed by ${name} (${found.type}, ${found.versions} versions)`
  return [
    found.loose.length === 0
      ? good('signing_key', stands)
      : weak(
          'signing_key_loose',
          `${stands}, which is ${found.loose.join(', ')}`,
          'make another key without that, and name it',
        ),
    ...denied,
  ]
}
