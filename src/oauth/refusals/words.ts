/** What the words of a refusal are made of. A family of reasons is one file beside this one; all.ts joins them. */
import type { Slot } from '../refusal.ts'

/**
 * What a program may do about a refusal, closed so that an agent can switch on it. What leaves the agent's own hands
 * (`ask_person`, `ask_parent`, `sign_in_again`) no program should do by itself.
 */
export const NEXT_ACTIONS = {
  ask_narrower:
    'ask again for less: `narrower`, where it is there, is the most that is permitted of what was asked for',
  ask_person: 'stop, and show `next` to a person: a registration, a right or a policy would have to change',
  ask_parent: 'ask the agent whose token stands behind this request for another hand-over',
  attest_again: 'get fresh evidence of what the agent is, and send the request again',
  prove_again: 'make a new DPoP proof (with the nonce of the `DPoP-Nonce` header), and send the request again',
  sign_in_again: 'get a new token of the user: refresh it, or have the user sign in',
  renew: 'get a new token for this tool from the service',
  open_task: 'open a new task',
  wait: 'send the same request again after `wait_seconds`',
  fix_request: 'change the program that makes the request; the same request is refused each time',
} as const

export type NextAction = keyof typeof NEXT_ACTIONS

export interface Step {
  readonly action: NextAction
  /** The same for a person, as an order: "ask for less". */
  readonly next: string
}

/** Text may hold `code` in backticks (and `says` and `next` <names> without), nothing else of Markdown. No entry tells whose a thing is, or whether it exists. */
export interface Words extends Step {
  /** What is wrong, about the caller's own request: `error_description`. Plain ASCII, no stop at its end. */
  readonly says: string
  /** What happened, in one to three sentences. */
  readonly means: string
  /** Against what the rule stands. */
  readonly why: string
  /** What whoever writes or runs the client does about it. */
  readonly agent: string
  /** What whoever runs the service does about it; left out where it is nothing. */
  readonly operator?: string
  /** One request that gets this refusal. */
  readonly example: string
  /** Where another step helps in some slot: evidence is mended in another way than a user's token. */
  readonly inSlot?: Partial<Record<Slot, Step>>
}
