/** `errand top`: the running service, live. */
import { type Cli, EXIT } from './cli.ts'
import type { Json } from './client.ts'
import { adminClient } from './places.ts'
import { json } from './print.ts'
import { frame } from './top-frame.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

/** To the corner, line by line over what was there, and the rest cleared: nothing flickers. */
const HOME = '\u001b[H'
const REST_OF_LINE = '\u001b[K'
const REST_OF_SCREEN = '\u001b[J'
/** A screen of its own, which leaves what was on the other as it was. */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[2J'
const LEAVE = '\u001b[?25h\u001b[?1049l'

export const top = verb({
  description:
    'Shows the running service, live: tokens and refusals a second, latency by route, verifiers and how far each is behind. Ctrl-C ends it.',
  args: {
    interval: { type: 'string', valueHint: 'seconds', description: 'between two pictures', default: '2' },
    once: { type: 'boolean', description: 'one picture, of one interval, to read or to pipe' },
    ...JSON_FLAG,
  },
  examples: ['errand top', 'errand top --once --interval 10', 'errand top --json | jq .refused'],
  async run(args, cli) {
    const seconds = count('interval', args.interval, 3600)
    const client = await adminClient(cli)
    const read = () => client.get('/stats')
    let before = await read()
    if (args.json) {
      cli.out(json(before))
      return EXIT.ok
    }
    const { terminal } = cli
    if (args.once || !terminal) {
      await cli.wait(seconds * 1000)
      for (const line of frame(cli, before, await read())) cli.out(line)
      return EXIT.ok
    }
    terminal.output.write(ENTER)
    try {
      // The first picture says what there is; rates begin with the second.
      show(cli, before, before)
      for (;;) {
        await cli.wait(seconds * 1000)
        if (cli.signal.aborted) return EXIT.ok
        const now = await read()
        show(cli, before, now)
        before = now
      }
    } catch (error) {
      if (cli.signal.aborted) return EXIT.ok
      throw error
    } finally {
      terminal.output.write(LEAVE)
    }
  },
})

function show(cli: Cli, before: Json, now: Json): void {
  const lines = frame(cli, before, now).map((line) => `${line}${REST_OF_LINE}\n`)
  cli.terminal?.output.write(HOME + lines.join('') + REST_OF_SCREEN)
}
