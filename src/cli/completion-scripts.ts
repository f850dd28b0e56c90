/**
 * The completion scripts. What they fill in from file names is a word of harmless letters or nothing: a shell expands
 * what it is given, and a file in a foreign folder may be called anything.
 */
import type { Command, Values } from './completion.ts'

/** Data that bash and zsh read alike: one word a line. */
function tables(commands: readonly Command[]): string {
  const cases = (lines: (command: Command) => readonly string[]): string =>
    commands
      .flatMap((command) => {
        const words = lines(command)
        return words.length === 0
          ? []
          : [`    ${quoted(command.path.join(' '))}) printf '%s\\n' ${words.map(quoted).join(' ')} ;;`]
      })
      .join('\n')
  const values = commands
    .flatMap(({ path, flags }) =>
      flags
        .filter(({ takesValue }) => takesValue)
        .map(({ name, values: each }) => `    ${quoted([...path, dashed(name)].join(' '))}) ${said(each)} ;;`),
    )
    .join('\n')
  const argumentsOf = commands
    .flatMap(({ path, argument }) =>
      argument === undefined ? [] : [`    ${quoted(path.join(' '))}) ${said(argument)} ;;`],
    )
    .join('\n')
  return `__errand_names() { # of the files in a folder of the configuration
  local file
  for file in "\${ERRAND_CONFIG:-config}/$1"/*.yaml; do
    file=\${file##*/}
    file=\${file%.yaml}
    [[ $file =~ ^[a-z][a-z0-9_.-]*$ ]] && printf '%s\\n' "$file"
  done 2>/dev/null
}
__errand_commands() {
  case $1 in
${cases(({ commands: below }) => below)}
  esac
}
__errand_flags() {
  case $1 in
${cases(({ flags }) => flags.map(({ name }) => dashed(name)))}
  esac
}
__errand_values() { # status 1: the flag takes none
  case $1 in
${values}
    *) return 1 ;;
  esac
}
__errand_arguments() {
  case $1 in
${argumentsOf}
  esac
}
`
}

const dashed = (name: string): string => (name.length === 1 ? `-${name}` : `--${name}`)
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

const said = (values: Values): string =>
  values === undefined
    ? ':'
    : values === 'files'
      ? 'echo :files'
      : typeof values === 'string'
        ? `__errand_names ${values}`
        : `printf '%s\\n' ${values.map(quoted).join(' ')}`

export const bashScript = (commands: readonly Command[]): string =>
  `# Completion of errand for bash. In ~/.bashrc: source <(errand completion bash)
${tables(commands)}
_errand() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev='' path='' words='' word
  local at=1
  COMPREPLY=()
  # The command, as far as it is one.
  while ((at < COMP_CWORD)); do
    __errand_commands "$path" | grep -qxF -- "\${COMP_WORDS[at]}" || break
    path="\${path:+$path }\${COMP_WORDS[at]}"
    ((at++))
  done
  ((COMP_CWORD > 1)) && prev=\${COMP_WORDS[COMP_CWORD - 1]}
  if [[ $prev == -* ]] && words=$(__errand_values "$path $prev"); then
    :
  elif [[ $cur == -* ]]; then
    words=$(__errand_flags "$path")
  else
    words=$( ((at == COMP_CWORD)) && __errand_commands "$path"; __errand_arguments "$path")
    [[ -z $words ]] && words=$(__errand_flags "$path")
  fi
  if [[ $words == :files ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$cur")
    return
  fi
  while IFS= read -r word; do
    [[ -n $word && $word == "$cur"* ]] && COMPREPLY+=("$word")
  done <<<"$words"
}
complete -F _errand errand`

export const zshScript = (commands: readonly Command[]): string =>
  `#compdef errand
# Completion of errand for zsh. In ~/.zshrc, after compinit: source <(errand completion zsh)
${tables(commands).replace('local file\n', 'local file\n  setopt local_options null_glob\n')}
_errand() {
  local at=2 path_='' prev=\${words[CURRENT-1]} said
  while ((at < CURRENT)); do
    __errand_commands "$path_" | grep -qxF -- "\${words[at]}" || break
    path_="\${path_:+$path_ }\${words[at]}"
    ((at++))
  done
  if [[ $prev == -* ]] && said=$(__errand_values "$path_ $prev"); then
    :
  elif [[ \${words[CURRENT]} == -* ]]; then
    said=$(__errand_flags "$path_")
  else
    said=$( ((at == CURRENT)) && __errand_commands "$path_"; __errand_arguments "$path_")
    [[ -z $said ]] && said=$(__errand_flags "$path_")
  fi
  if [[ $said == :files ]]; then
    _files
  elif [[ -n $said ]]; then
    compadd -- "\${(@f)said}"
  fi
}
compdef _errand errand`

/** In fish a condition says where each word may stand, and words come with what they mean. */
export function fishScript(commands: readonly Command[]): string {
  const escaped = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const about = new Map(commands.map(({ path, description }) => [path.join(' '), description]))
  const list = (values: Values): string =>
    values === undefined
      ? ''
      : values === 'files'
        ? ' -F'
        : typeof values === 'string'
          ? ` -a '(__errand_names ${values})'`
          : ` -a ${escaped(values.join(' '))}`
  const lines = commands.flatMap(({ path, commands: below, flags, argument }) => {
    const here = `-n ${escaped(`__errand_at ${path.join(' ')}`.trim())}`
    return [
      ...below.map(
        (name) => `complete -c errand ${here} -a ${name} -d ${escaped(about.get([...path, name].join(' ')) ?? '')}`,
      ),
      ...flags.map(
        ({ name, description, takesValue, values }) =>
          `complete -c errand ${here} ${name.length === 1 ? '-s' : '-l'} ${name}${takesValue ? ` ${values === 'files' ? '-r' : '-x'}` : ''}${list(values)} -d ${escaped(description)}`,
      ),
      ...(argument === undefined ? [] : [`complete -c errand ${here}${list(argument)}`]),
    ]
  })
  return `# Completion of errand for fish. In ~/.config/fish/config.fish: errand completion fish | source
function __errand_names # of the files in a folder of the configuration
  set -l folder config
  test -n "$ERRAND_CONFIG"; and set folder $ERRAND_CONFIG
  for file in $folder/$argv[1]/*.yaml
    string match -r '^[a-z][a-z0-9_.-]*$' -- (path basename -E -- $file 2>/dev/null; or basename -s .yaml -- $file)
  end
end
function __errand_at # whether these are the words of the command so far; flags may follow
  set -l words (commandline -opc)[2..-1]
  set -l count (count $argv)
  if test $count -eq 0
    test (count $words) -eq 0
    return
  end
  test (count $words) -ge $count; and test "$words[1..$count]" = "$argv"
end
complete -c errand -f
${lines.join('\n')}`
}
