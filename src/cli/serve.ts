/** `errand serve`: the service itself, until it is told to stop. */
import { AuditDamage } from '../audit/damage.ts'
import { type Cli, CliError, EXIT } from './cli.ts'
import { placesOf } from './places.ts'
import { safe } from './print.ts'
import { verb } from './verb.ts'

/** When each release line stops getting security fixes (https://github.com/nodejs/release#release-schedule). */
const END_OF_LIFE: { readonly [major: number]: string } = {
  20: '2026-04-30',
  21: '2024-06-01',
  22: '2027-04-30',
  23: '2025-06-01',
  24: '2028-04-30',
  25: '2026-06-01',
}

/** U6: a warning, since it still runs. */
export function endOfLifeWarning(nodeVersion: string, now: number): string | undefined {
  const end = END_OF_LIFE[Number(nodeVersion.split('.')[0])]
  if (end === undefined || now < Date.parse(end) / 1000) return undefined
  return `Node ${nodeVersion} gets no security fixes since ${end}: move to a current long-term release (https://nodejs.org)`
}

export const serve = verb({
  description: 'Starts the service. The first start makes its keys and its data folder, and says what to try next.',
  args: {
    config: { type: 'string', valueHint: 'folder', description: 'configuration (default ERRAND_CONFIG or config/)' },
    data: { type: 'string', valueHint: 'folder', description: 'data (default ERRAND_DATA or data/)' },
    keys: { type: 'string', valueHint: 'folder', description: 'keys (default ERRAND_KEYS or keys/)' },
  },
  examples: ['errand serve', 'errand serve --config /etc/errand --data /var/lib/errand --keys /etc/errand/keys'],
  async run(args, cli) {
    const warning = endOfLifeWarning(cli.nodeVersion, cli.now())
    if (warning !== undefined) cli.err(cli.colors.yellow(`warning: ${warning}`))
    const places = placesOf(cli)
    const { serve: start } = await import('../main.ts')
    const service = await start({
      ...(cli.terminal
        ? { promptPassphrase: async (anew) => (await import('./passphrase.ts')).askPassphrase(cli, { anew }) }
        : {}),
      configDir: args.config ?? places.configDir,
      dataDir: args.data ?? places.dataDir,
      keysDir: args.keys ?? places.keysDir,
      print: cli.out,
    }).catch((error: unknown): never => {
      throw startFailure(error)
    })
    cli.onServing?.()
    await stopped(cli)
    await service.close()
    return EXIT.ok
  },
})

const stopped = ({ signal }: Cli): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** What keeps a service from starting, in words; a bug is thrown on as it is. */
function startFailure(error: unknown): unknown {
  const { code, message, port, address } = error as {
    code?: unknown
    message?: string
    port?: number
    address?: string
  }
  if (code === 'EADDRINUSE')
    return new CliError(EXIT.refused, `port ${port ?? ''} of ${address ?? 'this machine'} is taken`, [
      'Is another Errand running? Stop it, or set listen.port (and the port in issuer) in errand.yaml.',
    ])
  if (code === 'EEXIST' || code === 'ENOTDIR')
    return new CliError(EXIT.refused, `cannot start: ${message ?? code}`, [
      'The data and keys folders must be folders: something else has the name. Move it, or set ERRAND_DATA or ERRAND_KEYS.',
    ])
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOSPC' || code === 'EMFILE')
    return new CliError(EXIT.refused, `cannot start: ${message ?? code}`, serveHints(code))
  if (error instanceof AuditDamage) {
    const { kind, index, file } = error
    return new CliError(
      EXIT.refused,
      `data_damaged: the audit log is damaged at index ${index} in ${safe(file)} (${kind}); nothing was changed`,
      [
        'errand audit verify names every damage (with ERRAND_DATA, where the data are not in data/).',
        'Restore audit/ and errand.db (with errand.db-wal) from one backup, then start again.',
      ],
    )
  }
  // Every refusal to start carries a stable code, and a message that says what to do.
  if (typeof code === 'string' && /^[a-z][a-z_]+$/.test(code) && error instanceof Error)
    return new CliError(EXIT.refused, `${code}: ${message ?? ''}`)
  return error
}

/** What to do where the operating system says no. */
function serveHints(code: string): readonly string[] {
  if (code === 'ENOSPC') return ['The disk is full: free some space, then start again. Nothing acknowledged was lost.']
  if (code === 'EMFILE') return ['Too few files may be open at once: allow 1024 or more (ulimit -n), then start again.']
  return ['The data and keys folders must belong to the user that runs Errand, and be writable.']
}
