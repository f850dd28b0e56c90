/** The API description held against the running service by schemathesis, which nobody here wrote. */
import { spawn, spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROUTES } from '../../src/http/app.ts'
import { describeApi } from '../../tools/openapi.ts'
import { openRunning } from '../running.ts'

/** Nothing of these is in a description: a 5xx, a status, a type, a body or a header of another form. */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
]

/** The interpreter, where it has schemathesis; undefined where not. */
export function python(): string | undefined {
  const found = process.env['ERRAND_TEST_PYTHON'] ?? 'python3'
  return spawnSync(found, ['-c', 'import schemathesis, jwt']).status === 0 ? found : undefined
}

/** Exit code of schemathesis and what it printed, after `seconds` of requests. */
export async function fuzz(seconds: number): Promise<{ readonly exit: number | null; readonly printed: string }> {
  const running = await openRunning((file, text) =>
    file === 'errand.yaml'
      ? `${text}\nbounds: { requests_per_second_per_client: 1000000, strangers_per_second_per_source: 1000000 }\n`
      : text,
  )
  try {
    // A stream has no end that could be waited for; its frames are tested where a follower reads them.
    const routes = ROUTES.filter(({ path }) => path !== '/revocations/stream')
    const description = join(running.folder, 'openapi.json')
    await writeFile(description, JSON.stringify(describeApi(routes, '0.0.0')))
    return await run(
      [
        ...['--no-color', 'run', description, '--url', running.issuer],
        ...['--checks', CHECKS.join(','), '--max-time', String(seconds)],
        ...['--request-timeout', '15', '--continue-on-failure', '--max-examples', '10000'],
      ],
      {
        SCHEMATHESIS_HOOKS: fileURLToPath(new URL('schemathesis_hooks.py', import.meta.url)),
        ERRAND_FUZZ_KEYS: join(running.folder, 'keys'),
        ERRAND_FUZZ_ISSUER: running.issuer,
      },
      running.folder,
    )
  } finally {
    await running.close()
  }
}

function run(args: readonly string[], env: Record<string, string>, cwd: string) {
  const child = spawn(python() ?? 'python3', ['-m', 'schemathesis.cli', ...args], {
    env: { ...process.env, ...env },
    cwd,
  })
  let printed = ''
  child.stdout.on('data', (chunk) => {
    printed += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    printed += String(chunk)
  })
  return new Promise<{ readonly exit: number | null; readonly printed: string }>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (exit) => resolve({ exit, printed }))
  })
}
