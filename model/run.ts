/** Every scope of the design, then every weaker design with the shortest way to break it. */
import { parseArgs } from 'node:util'
import { LEFT_OUT, WEAKER } from './designs.ts'
import { SCOPES, type ScopeName } from './scopes.ts'
import { type Broken, search } from './search.ts'
import { DESIGN } from './state.ts'

const { values } = parseArgs({ options: { scope: { type: 'string' }, design: { type: 'string' } } })

function show({ invariant, because, steps }: Broken): void {
  console.log(`  ${invariant} is broken in ${steps.length} steps: ${because}`)
  for (const [index, step] of steps.entries()) console.log(`    ${String(index + 1).padStart(2)}  ${step}`)
}

let wrong = 0
let total = 0
const started = performance.now()
if (values.design === undefined)
  for (const scope of Object.values(SCOPES)) {
    if (values.scope !== undefined && values.scope !== scope.name) continue
    const { states, depth, broken } = search(scope, DESIGN)
    total += states
    wrong += broken.length
    console.log(`${scope.name}: ${states} states, ${depth} steps deep, ${broken.length === 0 ? 'holds' : 'BROKEN'}`)
    broken.forEach(show)
  }
if (values.scope === undefined)
  for (const { name, lacks, scope, breaks } of [...WEAKER, ...LEFT_OUT]) {
    if (values.design !== undefined && values.design !== name) continue
    const { states, broken } = search(SCOPES[scope as ScopeName], { ...DESIGN, ...lacks }, { until: breaks })
    total += states
    const refuted = breaks.every((each) => broken.some(({ invariant }) => invariant === each))
    if (!refuted) wrong += 1
    console.log(`\n${name}: ${refuted ? 'refuted' : 'NOT REFUTED'}, ${states} states of ${scope}`)
    broken.filter(({ invariant }) => breaks.includes(invariant)).forEach(show)
  }
console.log(`\n${total} states in ${((performance.now() - started) / 1000).toFixed(1)} s`)
if (total === 0) console.log('no scope or design of that name')
process.exitCode = wrong > 0 || total === 0 ? 1 : 0
