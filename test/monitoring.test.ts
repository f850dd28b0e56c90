import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { REASONS } from '../src/oauth/refusal.ts'
import { type House, openHouse } from './house.ts'

const FOLDER = 'examples/monitoring'
const read = (name: string) => readFile(`${FOLDER}/${name}`, 'utf8')

/** Names of metrics in a PromQL expression: words that are no function, label, keyword or duration. */
const metricsIn = (expression: string): readonly string[] => [
  ...new Set(expression.replace(/\{[^}]*\}|"[^"]*"/g, '').match(/\b(?:errand|process|nodejs)_[a-z0-9_]+/g) ?? []),
]
const reasonsIn = (expression: string): readonly string[] =>
  [...expression.matchAll(/reason=~?"([^"]+)"/g)].flatMap(([, names]) => names!.split('|'))

describe('what is watched is there', () => {
  let house: House
  let told: string
  beforeAll(async () => {
    house = await openHouse()
    const research = await house.agent('research')
    await research.exchange({ form: { audience: 'tickets' } })
    await house.admin('POST', '/revocations', { match: { jti: 'x'.repeat(27) }, reason: 'a test' })
    await (await house.tool('tickets')).call('POST', '/revocations/acks', { epoch: '1.0' })
    told = (await house.fetch('GET', '/metrics')).text
  })
  afterAll(() => house.close())
  const isTold = (metric: string) =>
    new RegExp(`^${metric}(?:\\{| )`, 'm').test(told) || told.includes(`# TYPE ${metric} `)

  it('every rule and every panel asks for metrics that the service tells, and for reasons that it gives', async () => {
    const rules = parse(await read('errand.rules.yaml')) as { groups: { rules: { alert: string; expr: string }[] }[] }
    const dashboard = JSON.parse(await read('errand-dashboard.json')) as {
      panels: { title: string; targets: { expr: string }[] }[]
    }
    const asked = [
      ...rules.groups.flatMap(({ rules }) => rules.map(({ alert, expr }) => [alert, expr] as const)),
      ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
    ]
    expect(asked.length).toBeGreaterThan(30)
    for (const [name, expression] of asked) {
      expect([name, metricsIn(expression).filter((metric) => !isTold(metric))]).toEqual([name, []])
      expect([
        name,
        reasonsIn(expression).filter((reason) => !(REASONS as readonly string[]).includes(reason)),
      ]).toEqual([name, []])
    }
  })

  it('every rule says what it means and what to do, and every panel has a place of its own', async () => {
    const rules = parse(await read('errand.rules.yaml')) as {
      groups: { rules: { annotations: Record<string, string>; labels: Record<string, string> }[] }[]
    }
    for (const { annotations, labels } of rules.groups.flatMap(({ rules }) => rules)) {
      expect(annotations['summary']).toBeTruthy()
      expect(annotations['description']).toBeTruthy()
      expect(['page', 'ticket']).toContain(labels['severity'])
    }
    const { panels } = JSON.parse(await read('errand-dashboard.json')) as {
      panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[]
    }
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const taken = new Set<string>()
    for (const { gridPos: at } of panels)
      for (let x = at.x; x < at.x + at.w; x++)
        for (let y = at.y; y < at.y + at.h; y++) {
          expect(x < 24 && !taken.has(`${x} ${y}`)).toBe(true)
          taken.add(`${x} ${y}`)
        }
  })

  it('a verifier that has not acknowledged is shown behind', () => {
    expect(told).toContain('errand_verifier_entries_behind{verifier="tool:tickets"} 1')
    expect(told).toContain('errand_store_healthy 1')
  })
})

describe('who may read the metrics', () => {
  it('this machine, and whom listen.metrics_from names; nobody else learns that there are any', async () => {
    const named = (text: string) => text.replace('port: 4460', 'port: 4460\n  metrics_from: [10.1.0.0/16]')
    for (const [peer, status] of [
      ['127.0.0.1', 200],
      ['10.1.2.3', 200],
      ['10.2.0.1', 404],
    ] as const) {
      const house = await openHouse({ config: { 'errand.yaml': named }, env: { peer } })
      try {
        expect([peer, (await house.fetch('GET', '/metrics')).status]).toEqual([peer, status])
        const passedOn = await house.fetch('GET', '/metrics', { headers: { 'x-forwarded-for': '127.0.0.1' } })
        expect([peer, passedOn.status]).toEqual([peer, peer === '127.0.0.1' ? 404 : status])
      } finally {
        await house.close()
      }
    }
  })
})
