/** The passphrase of the root key, asked of the person at the terminal; never taken from arguments or the environment. */
import { isCancel, password } from '@clack/prompts'
import { type Cli, CliError, EXIT } from './cli.ts'

export async function askPassphrase(
  { terminal, signal }: Pick<Cli, 'terminal' | 'signal'>,
  message = 'Passphrase of the root key',
): Promise<string> {
  const answer = await password({ ...terminal, signal, message, mask: '' })
  if (isCancel(answer)) throw new CliError(EXIT.interrupted, 'interrupted: the root key was not opened')
  return answer
}
