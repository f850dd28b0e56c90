/** `GET /tasks/{id}`: what looking at a tree costs, and how much of it is shown. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditSearch } from '../../src/audit/log.ts'
import { type House, openHouse } from '../house.ts'

interface Shown {
  readonly id: string
  readonly children: readonly Shown[]
  readonly tokens: readonly { readonly jti: string }[]
  readonly refusals: readonly { readonly reason: string }[]
  readonly truncated?: true
}

describe('the tree of a task', () => {
  let house: House
  let searches: AuditSearch[]
  beforeAll(async () => {
    house = await openHouse()
    const { log } = house.service
    const { search } = log
    Object.assign(log, {
      search: (query: AuditSearch) => {
        searches.push(query)
        return search(query)
      },
    })
  })
  afterAll(() => house.close())

  const newId = () => `task_${randomBytes(16).toString('base64url')}`
  const opened = async () => {
    const research = await house.agent('research')
    const issued = await research.exchange({ form: { audience: 'tickets' } })
    expect(issued.status, issued.text).toBe(200)
    const id = String(issued.body['task_id'])
    const root = (await house.service.stores.tasks.get(id))!
    return { research, id, root }
  }
  const addChild = async (parent: { id: string; depth: number }, root: Awaited<ReturnType<typeof opened>>['root']) => {
    const child = { ...root, id: newId(), parent: parent.id, root: root.id, depth: parent.depth + 1 }
    expect(await house.service.stores.tasks.open(child, house.now())).toBe('opened')
    return child
  }
  const all = (task: Shown): readonly Shown[] => [task, ...task.children.flatMap(all)]
  const show = async (who: Awaited<ReturnType<House['agent']>>, id: string) => {
    searches = []
    const { status, body } = await who.call('GET', `/tasks/${id}`)
    expect(status).toBe(200)
    return body as unknown as Shown
  }

  it('H8 is told by one search of the log, each task what is its own', async () => {
    const { research, root } = await opened()
    const [one, two] = [await addChild(root, root), await addChild(root, root)]
    const other = await opened()
    for (const task of [one, two, two, other.root])
      await house.service.log.append({
        type: 'token.refused',
        decision: 'refuse',
        reason: 'scope_not_granted',
        task: task.id,
        root: task.root,
      })
    const shown = await show(research, root.id)
    expect(searches.map(({ root, task }) => ({ root, task }))).toEqual([{ root: root.id, task: undefined }])
    expect(shown.truncated).toBeUndefined()
    const counts = Object.fromEntries(
      all(shown).map(({ id, tokens, refusals }) => [id, [tokens.length, refusals.length]]),
    )
    expect(counts).toEqual({ [root.id]: [1, 0], [one.id]: [0, 1], [two.id]: [0, 2] })
    // One of them by itself is the same of it.
    expect(await show(research, two.id)).toEqual(all(shown).find(({ id }) => id === two.id))
    expect(searches.map(({ root, task }) => ({ root, task }))).toEqual([{ root: undefined, task: two.id }])
  })

  it('H8 shows a hundred tasks of a larger one, level by level, and says that there are more', async () => {
    const { research, root } = await opened()
    const first = await addChild(root, root)
    const rest = []
    for (let i = 0; i < 97; i += 1) rest.push(await addChild(root, root))
    const below = await addChild(first, root)
    const whole = await show(research, root.id)
    expect([all(whole).length, whole.truncated, searches.length]).toEqual([100, undefined, 1])
    expect(all(whole).map(({ id }) => id)).toContain(below.id)
    await addChild(root, root)
    const part = await show(research, root.id)
    expect([all(part).length, part.truncated, searches.length]).toEqual([100, true, 1])
    // The deepest are what is left out, and can be looked at from nearer.
    expect(all(part).map(({ id }) => id)).not.toContain(below.id)
    const near = await show(research, first.id)
    expect([all(near).map(({ id }) => id), near.truncated]).toEqual([[first.id, below.id], undefined])
  })

  it('H8 is looked at by an agent five times a second, whatever else it asks, and by an administrator as it likes', async () => {
    const { research, id } = await opened()
    house.advance(60)
    const answers = []
    for (let i = 0; i < 12; i += 1) answers.push(await research.call('GET', `/tasks/${id}`))
    expect(answers.map(({ status }) => status)).toEqual([...Array(10).fill(200), 429, 429])
    expect(answers.at(-1)?.body['reason']).toBe('rate_limited')
    expect(answers.at(-1)?.headers.get('retry-after')).toBe('1')
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    for (let i = 0; i < 12; i += 1) expect((await house.admin('GET', `/tasks/${id}`)).status).toBe(200)
    house.advance(1)
    expect((await research.call('GET', `/tasks/${id}`)).status).toBe(200)
  })
})
