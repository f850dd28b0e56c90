/** The arithmetic of budgets that both adapters share. */
import type { Task } from '../tasks/task.ts'
import type { Reservation } from '../tasks/task-store.ts'

/** A negative or fractional amount would give budget back: that is a bug of the caller. */
export function checkAmount({ calls, exchanges, cost }: Reservation): void {
  for (const value of [calls, exchanges, cost]) {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('amounts are non-negative integers')
  }
}

/** The first budget of this task that `amount` would overspend; sums that are not exact any more count as overspent. */
export function exhaustedBudget(
  { spent, budget }: Pick<Task, 'spent' | 'budget'>,
  amount: Reservation,
): 'calls' | 'exchanges' | 'cost' | undefined {
  const limits = { calls: budget.maxCalls, exchanges: budget.maxExchanges, cost: budget.maxCost }
  for (const name of ['calls', 'exchanges', 'cost'] as const) {
    if (amount[name] > 0 && spent[name] + amount[name] > (limits[name] ?? Number.MAX_SAFE_INTEGER)) return name
  }
  return undefined
}
