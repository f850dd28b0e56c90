import { AsyncLocalStorage } from 'node:async_hooks'
import {
  type Context,
  context,
  type ContextManager,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  trace,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTracing } from '../../src/http/tracing.ts'
import { type House, openHouse } from '../house.ts'

/** What an SDK registers: without it, what is active would be lost at the first await. */
function asyncContexts(): ContextManager {
  const kept = new AsyncLocalStorage<Context>()
  const manager: ContextManager = {
    active: () => kept.getStore() ?? ROOT_CONTEXT,
    with: (active, run, self, ...args) => kept.run(active, () => run.call(self as never, ...args)),
    bind: (_, target) => target,
    enable: () => manager,
    disable: () => manager,
  }
  return manager
}

it('without an SDK there is nothing to wrap, and nothing is wrapped', () => {
  expect(createTracing()).toBeUndefined()
})

describe('with an SDK registered', () => {
  const exporter = new InMemorySpanExporter()
  let house: House
  beforeAll(async () => {
    context.setGlobalContextManager(asyncContexts())
    propagation.setGlobalPropagator(new W3CTraceContextPropagator())
    trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
    house = await openHouse()
  })
  afterAll(async () => {
    await house.close()
    trace.disable()
    propagation.disable()
    context.disable()
  })
  const TRACE = '0af7651916cd43dd8448eb211c80319c'
  const CALLER = 'b7ad6b7169203331'

  it("an exchange is one span below the caller's, with its steps below it", async () => {
    const research = await house.agent('research')
    exporter.reset()
    const answer = await research.exchange({
      form: { audience: 'tickets' },
      headers: { traceparent: `00-${TRACE}-${CALLER}-01` },
    })
    expect(answer.status).toBe(200)
    const spans = exporter.getFinishedSpans()
    const whole = spans.find(({ kind }) => kind === SpanKind.SERVER)!
    expect([whole.name, whole.parentSpanContext?.spanId, whole.spanContext().traceId]).toEqual([
      'POST /token',
      CALLER,
      TRACE,
    ])
    expect(whole.attributes).toEqual({
      'http.request.method': 'POST',
      'http.route': '/token',
      'http.response.status_code': 200,
      'errand.correlation': answer.headers.get('x-request-id'),
    })
    const steps = spans.filter((span) => span !== whole).map(({ name }) => name)
    for (const name of [
      'errand.attest',
      'errand.replay_guard.spend',
      'errand.subject_token',
      'errand.decide',
      'errand.revocations.check',
      'errand.tasks.open',
      'errand.audit.append',
      'errand.issuer.sign',
    ])
      expect(steps).toContain(name)
    expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set([TRACE]))
    // Intent before effect, in the trace as in the log.
    const at = (name: string) => spans.findIndex((span) => span.name === name)
    expect(at('errand.audit.append')).toBeLessThan(at('errand.issuer.sign'))
  })

  it('a refusal carries its reason, and no span holds a token, a user or a key', async () => {
    const research = await house.agent('research')
    exporter.reset()
    const answer = await research.exchange({
      form: { audience: 'tickets', scope: 'tickets:close_ticket payments:refund' },
    })
    expect(answer.status).toBe(400)
    const spans = exporter.getFinishedSpans()
    const whole = spans.find(({ kind }) => kind === SpanKind.SERVER)!
    expect(whole.attributes['errand.reason']).toBe(answer.body['reason'])
    const told = JSON.stringify(
      spans.map(({ name, attributes, events, status }) => ({ name, attributes, events, status })),
    )
    expect(told).not.toMatch(/eyJ|alice|research/)
  })

  it('a caller without a trace begins one, and a garbled header is none', async () => {
    for (const headers of [{}, { traceparent: 'garbage' }, { traceparent: `00-${'0'.repeat(32)}-${CALLER}-01` }]) {
      exporter.reset()
      await house.fetch('GET', '/health', { headers })
      const [span] = exporter.getFinishedSpans()
      expect([span!.name, span!.parentSpanContext]).toEqual(['GET /health', undefined])
    }
  })

  it('what is thrown is told by its kind alone', () => {
    const tracing = createTracing()!
    exporter.reset()
    const fails = tracing.step('errand.fails', () => {
      throw new TypeError('the secret is s3cret')
    })
    expect(fails).toThrow(TypeError)
    const [span] = exporter.getFinishedSpans()
    expect([span!.attributes, span!.status, span!.events]).toEqual([{ 'error.type': 'TypeError' }, { code: 2 }, []])
  })
})
