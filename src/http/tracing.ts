/**
 * Spans across a request, by OpenTelemetry's API: whoever registers an SDK (`node --import`) gets them, and for
 * everybody else nothing is wrapped and nothing is paid. A span names steps, routes and reasons; never a person, a
 * token or a key.
 */
import {
  type Attributes,
  context,
  isSpanContextValid,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api'

type Method<T> = { [K in keyof T]: T[K] extends (...args: never[]) => unknown ? K : never }[keyof T]

export interface Tracing {
  /** The span of a whole request, below the caller's where its headers name one (W3C Trace Context). */
  request<T>(request: Incoming, run: (note: Note) => Promise<T>): Promise<T>
  /** The same function, with a span around each call. */
  step<A extends unknown[], R>(name: string, call: (...args: A) => R): (...args: A) => R
  /** The same object, with a span around each call of these methods: `name.method`. */
  steps<T extends object>(name: string, object: T, methods: readonly Method<T>[]): T
}

export interface Incoming {
  readonly method: string
  readonly correlation: string
  header(name: string): string | undefined
}

/** What is known at the end. */
export type Note = (answer: { readonly route: string; readonly status: number; readonly reason?: string }) => void

/** Undefined where no SDK is registered. */
export function createTracing(tracer: Tracer = trace.getTracer('errand')): Tracing | undefined {
  const probe = tracer.startSpan('errand.start', { root: true })
  probe.end()
  if (!isSpanContextValid(probe.spanContext())) return undefined

  const step =
    <A extends unknown[], R>(name: string, call: (...args: A) => R) =>
    (...args: A): R =>
      tracer.startActiveSpan(name, (span) => ended(span, () => call(...args)))
  return {
    request({ method, correlation, header }, run) {
      const from = propagation.extract(ROOT_CONTEXT, header, {
        get: (read, name) => read(name),
        keys: () => [],
      })
      const attributes = { 'http.request.method': method, 'errand.correlation': correlation }
      return context.with(from, () =>
        tracer.startActiveSpan(method, { kind: SpanKind.SERVER, attributes }, (span) =>
          ended(span, () =>
            run(({ route, status, reason }) => {
              span.updateName(`${method} ${route}`)
              const told: Attributes = { 'http.route': route, 'http.response.status_code': status }
              span.setAttributes(reason === undefined ? told : { ...told, 'errand.reason': reason })
              if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
            }),
          ),
        ),
      )
    },
    step,
    steps(name, object, methods) {
      const wrapped = { ...object }
      for (const method of methods) {
        const call = object[method] as (...args: unknown[]) => unknown
        wrapped[method] = step(`${name}.${String(method)}`, call) as never
      }
      return wrapped
    },
  }
}

/** Ends the span when what runs in it has ended, whichever way. */
function ended<R>(span: Span, run: () => R): R {
  const fail = (error: unknown) => {
    // Its kind alone: what it says may quote what it stumbled over.
    span.setStatus({ code: SpanStatusCode.ERROR })
    span.setAttribute('error.type', error instanceof Error ? error.name : 'unknown')
    span.end()
  }
  let answer: R
  try {
    answer = run()
  } catch (error) {
    fail(error)
    throw error
  }
  if (!(answer instanceof Promise)) {
    refusedIn(span, answer)
    span.end()
    return answer
  }
  return answer.then(
    (value: unknown) => {
      refusedIn(span, value)
      span.end()
      return value
    },
    (error: unknown) => {
      fail(error)
      throw error
    },
  ) as R
}

/** A refusal is a value: its reason is what one looks for. */
function refusedIn(span: Span, value: unknown): void {
  const refusal = (value as { readonly refusal?: { readonly reason?: unknown } } | undefined)?.refusal
  if (typeof refusal?.reason === 'string') span.setAttribute('errand.reason', refusal.reason)
}
