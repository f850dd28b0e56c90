/** `errand token verify`: the checks a tool API makes, but for the proof of possession, which only its holder can give. */
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { readKeySet } from '@errand/verifier/jwks.ts'
import { checkSignature } from '@errand/verifier/signature.ts'
import { checkAccessToken } from '@errand/verifier/token-check.ts'
import { CliError, EXIT } from './cli.ts'
import { getPublic } from './client.ts'
import { adminClient, serviceOf } from './places.ts'
import { json } from './print.ts'
import { audienceOf } from './revoke.ts'
import { claimLines, readToken, TOKEN_FILE } from './token-inspect.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const verify = verb({
  description:
    'Verifies a token as a tool would: form, signature by the published keys, issuer, audience, times, revocation.',
  args: {
    file: TOKEN_FILE,
    tool: {
      type: 'string',
      valueHint: 'name',
      description: 'the tool it must be for, by name or audience URI',
      required: true,
    },
    offline: { type: 'boolean', description: 'do not ask the service whether it was revoked' },
    ...JSON_FLAG,
  },
  examples: [
    'errand token verify token --tool tickets',
    'cat token | errand token verify - --tool https://tickets.example.com/ --offline',
  ],
  async run(args, cli) {
    const token = await readToken(cli, args.file)
    const { url, issuer } = await serviceOf(cli)
    // A name is looked up by the administrator; a URI needs nobody.
    const admin = args.offline && args.tool.includes('://') ? undefined : await adminClient(cli)
    const audience = args.tool.includes('://') ? args.tool : await audienceOf(admin!, args.tool)

    const parsed = parseJws(token)
    if (!parsed.ok) throw refusedBy(parsed.fault)
    const checked = checkAccessToken(parsed.value, {
      issuer,
      audience,
      now: Math.floor(cli.now()),
      maxLifetimeSeconds: MAX_TOKEN_LIFETIME_SECONDS,
      dev: 'accept',
    })
    if (!checked.ok) throw refusedBy(checked.fault)
    const keys = readKeySet(JSON.stringify(await getPublic(cli, url, '/.well-known/jwks.json')))
    if ('rejected' in keys) throw new CliError(EXIT.unreachable, `the published keys are refused: ${keys.rejected}`)
    const entry = keys.get(String(parsed.value.header['kid']))
    if (!entry) throw refusedBy('unknown_kid')
    if (entry.use !== 'token') throw refusedBy('key_scope')
    if (!entry.found.ok) throw refusedBy(entry.found.fault)
    const signed = checkSignature(parsed.value, entry.found.value)
    if (!signed.ok) throw refusedBy(signed.fault)

    let revocation: 'live' | 'not asked' = 'not asked'
    if (!args.offline) {
      const { active } = await admin!.form('/introspect', { token })
      if (active !== true) throw refusedBy('revoked')
      revocation = 'live'
    }
    if (args.json) cli.out(json({ verified: true, revocation, payload: parsed.value.payload }))
    else {
      cli.out(`${cli.colors.green('good')} at ${audience}`)
      for (const line of claimLines(cli, parsed.value.header, parsed.value.payload)) cli.out(line)
    }
    if (args.offline) cli.err('Whether it was revoked was not asked.')
    if (checked.value.cnf) cli.err('A tool also wants a proof by the key it is bound to; only the holder can make one.')
    return EXIT.ok
  },
})

const HINT: { readonly [fault: string]: string } = {
  wrong_audience: 'It is meant for another tool: errand token inspect shows which.',
  untrusted_issuer: 'Another service issued it: set ERRAND_URL to that one.',
  expired: 'Tokens live five minutes at most: get a new one.',
  unknown_kid: 'Its signing key is not published (any more), or it was issued by another service.',
  revoked: 'The service says it is not active: revoked, or its task has ended.',
  wrong_typ: 'It is a token of another kind, not an access token.',
}

const refusedBy = (fault: string): CliError =>
  new CliError(EXIT.refused, `a tool would refuse it: ${fault}`, HINT[fault] === undefined ? [] : [HINT[fault]])
