import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { agentAt, details } from './house.ts'
import { type Double, serveErrand } from './service-double.ts'

describe('an agent that is a release', () => {
  let service: Double
  beforeAll(async () => {
    service = await serveErrand()
  })
  afterAll(() => service.close())

  it('says so at each exchange, with what it sees of itself at that moment', async () => {
    let description = 'Reads one ticket.'
    const { agent } = agentAt(service.url, {
      release: 'abcdefghijklmnopqrstuv',
      measurements: () => ({ model: 'm', tools: { read_ticket: { name: 'read_ticket', description } } }),
    })
    const task = await agent.task(details)
    await task.token({ tool: 'tickets' })
    description = 'Reads any ticket.'
    await task.token({ tool: 'crm' })
    const forms = service.at('/token').map(({ body }) => new URLSearchParams(body))
    expect(forms.map((form) => form.get('release'))).toEqual(['abcdefghijklmnopqrstuv', 'abcdefghijklmnopqrstuv'])
    expect(forms.map((form) => JSON.parse(form.get('measurements')!) as unknown)).toEqual(
      ['Reads one ticket.', 'Reads any ticket.'].map((text) => ({
        model: 'm',
        tools: { read_ticket: { name: 'read_ticket', description: text } },
      })),
    )
  })

  it('sends neither where it is none', async () => {
    const { agent } = agentAt(service.url)
    await (await agent.task(details)).token({ tool: 'tickets' })
    const form = new URLSearchParams(service.at('/token').at(-1)!.body)
    expect([form.has('release'), form.has('measurements')]).toEqual([false, false])
  })
})
