/** The facts, asked one after the other of a server: the double, or a real one. */
import { expect, it } from 'vitest'
import { type Bearer, type Fact, FACTS } from './facts.ts'

export interface VaultUnderTest {
  readonly address: string
  readonly tokens: Readonly<Record<Bearer, string>>
  readonly mount: string
  readonly approle: string
  readonly secretId: string
}

interface Answer {
  readonly status: number
  readonly body: { readonly errors?: unknown; readonly data?: unknown; readonly auth?: unknown }
}

export async function ask(
  { address }: Pick<VaultUnderTest, 'address'>,
  token: string,
  method: string,
  path: string,
  body?: object,
): Promise<Answer> {
  const response = await fetch(`${address}/v1/${path}`, {
    method,
    redirect: 'manual',
    headers: { 'x-vault-request': 'true', ...(token === '' ? {} : { 'x-vault-token': token }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Answer['body']) }
}

const memberOf = (value: unknown, name: string): unknown => {
  const whole = (value as Readonly<Record<string, unknown>> | null)?.[name]
  if (whole !== undefined) return whole
  return name.split('.').reduce<unknown>((inner, part) => (inner as Record<string, unknown> | null)?.[part], value)
}

function compare(value: unknown, wanted: Readonly<Record<string, unknown>>, says: string): void {
  for (const [name, expected] of Object.entries(wanted)) {
    const found = memberOf(value, name)
    if (expected instanceof RegExp) expect(String(found), `${says}: ${name}`).toMatch(expected)
    else expect(found, `${says}: ${name}`).toEqual(expected)
  }
}

async function check(vault: VaultUnderTest, fact: Fact, kept: Map<string, string>): Promise<void> {
  const filled = <T>(value: T): T =>
    JSON.parse(
      JSON.stringify(value)
        .replaceAll('{mount}', vault.mount)
        .replaceAll('{approle}', vault.approle)
        .replaceAll(/"\$(\w+)"/g, (_, name: string) => JSON.stringify(kept.get(name))),
    ) as T
  const [method, path, body] = fact.ask
  const { status, body: said } = await ask(
    vault,
    vault.tokens[fact.by],
    method,
    filled(path),
    body === undefined ? undefined : filled(body),
  )
  expect(status, `${fact.says}: ${JSON.stringify(said.errors)}`).toBe(fact.status)
  if (fact.errors) expect(said.errors, fact.says).toEqual(fact.errors)
  const inMount = (wanted: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(Object.entries(wanted).map(([name, value]) => [name.replace('{mount}', vault.mount), value]))
  if (fact.data) compare(said.data, inMount(fact.data), fact.says)
  if (fact.auth) compare(said.auth, fact.auth, fact.says)
  if (fact.keep) kept.set(fact.keep[0], String(memberOf(said.data, fact.keep[1])))
}

export function answersAsOpenBao(name: string, open: () => VaultUnderTest): void {
  const kept = new Map<string, string>()
  it(`${name} answers as OpenBao was seen to answer`, async () => {
    const vault = open()
    kept.set('secret_id', vault.secretId)
    for (const fact of FACTS) await check(vault, fact, kept)
  })
}
