/** The passphrase of the root key, asked of the person at the terminal; never taken from arguments or the environment. */
import { isCancel, password } from '@clack/prompts'
import { type Cli, CliError, EXIT } from './cli.ts'

const TRIES = 3

export async function askPassphrase(
  { terminal, signal }: Pick<Cli, 'terminal' | 'signal'>,
  {
    message = 'Passphrase of the root key',
    anew,
  }: {
    readonly message?: string
    /** It is to wrap something: typed twice, for what opens only with a slip of the finger is lost. */
    readonly anew: boolean
  },
): Promise<string> {
  const ask = async (what: string): Promise<string> => {
    const answer = await password({ ...terminal, signal, message: what, mask: '' })
    if (isCancel(answer)) throw new CliError(EXIT.interrupted, 'interrupted: the root key was not opened')
    return answer
  }
  if (!anew) return ask(message)
  for (let tries = 0; tries < TRIES; tries++) {
    const [one, other] = [await ask(tries === 0 ? message : `They differ. ${message}`), await ask('The same again')]
    if (one === other) return one
  }
  throw new CliError(EXIT.usage, 'the two passphrases differed each time: nothing was wrapped')
}
