/** The security cases are names that hold: no title has one that does not exist, and none is left without an answer. */
import { expect, it } from 'vitest'
import { coveredCases, openCases, unknownCases } from '../tools/security-cases.ts'

const covered = coveredCases()

it('every id at the head of a title is the id of a case', () => {
  expect(unknownCases(covered)).toEqual([])
})

it('every case has a test, or names the part it waits for', () => {
  expect(openCases(covered)).toEqual([])
})
