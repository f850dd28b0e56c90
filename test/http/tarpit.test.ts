/** Tries to have more noes held back than may be, to be answered after having gone, and to keep a place for ever. */
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import { createTarpit } from '../../src/http/tarpit.ts'
import { range } from '../contract/world.ts'

const caller = () => new EventEmitter() as unknown as ServerResponse

describe('H6 who floods waits for its no', () => {
  it('holds 256 of them, answers any more at once, and each once', async () => {
    const tarpit = createTarpit()
    const answered: number[] = []
    for (const n of range(256)) tarpit.later(caller(), () => answered.push(n))
    expect(answered).toEqual([])
    tarpit.later(caller(), () => answered.push(256))
    expect(answered).toEqual([256])
    await expect.poll(() => answered.length).toBe(257)
    expect(new Set(answered).size).toBe(257)
    tarpit.later(caller(), () => answered.push(257))
    expect(answered).toHaveLength(257)
    await expect.poll(() => answered.length).toBe(258)
  })

  it('answers nobody who has gone, and gives its place to another', async () => {
    const tarpit = createTarpit()
    const answered: number[] = []
    const gone = caller()
    tarpit.later(gone, () => answered.push(-1))
    for (const n of range(255)) tarpit.later(caller(), () => answered.push(n))
    gone.emit('close')
    tarpit.later(caller(), () => answered.push(255))
    expect(answered).toEqual([])
    await expect.poll(() => answered.length).toBe(256)
    expect(answered).not.toContain(-1)
  })

  it('leaves nothing behind on the connection', async () => {
    const tarpit = createTarpit()
    const one = caller()
    const answered = new Promise<void>((resolve) => tarpit.later(one, resolve))
    expect(one.listenerCount('close')).toBe(1)
    await answered
    expect(one.listenerCount('close')).toBe(0)
  })
})
