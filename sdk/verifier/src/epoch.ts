/** A place in the revocation log, `<generation>.<sequence>`: a logical clock, compared without wall clocks. */

export interface Epoch {
  readonly generation: number
  readonly sequence: number
}

const FORM = /^(?:0|[1-9][0-9]{0,8})\.(?:0|[1-9][0-9]{0,14})$/

/** Undefined where the text is not an epoch. */
export function parseEpoch(text: unknown): Epoch | undefined {
  if (typeof text !== 'string') return undefined
  if (!FORM.test(text)) return undefined
  const dot = text.indexOf('.')
  return { generation: Number(text.slice(0, dot)), sequence: Number(text.slice(dot + 1)) }
}

export const formatEpoch = (epoch: Epoch): string => `${epoch.generation}.${epoch.sequence}`

/** Negative where `a` is before `b`. */
export const compareEpochs = (a: Epoch, b: Epoch): number => a.generation - b.generation || a.sequence - b.sequence
