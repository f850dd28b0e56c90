/** Which names are identifiers: ASCII by character class, compared and never normalised (SECURITY-CASES G1, G2). */

export const TOOL_NAME = /^[a-z][a-z0-9_-]{0,31}$/
export const OPERATION_NAME = /^[a-z][a-z0-9_.-]{0,63}$/
export const CLIENT_ID = /^[a-z][a-z0-9_.-]{0,63}$/
export const POLICY_ID = /^[a-z][a-z0-9_.-]{0,63}$/

/** Cedar's id of an operation, and its scope value. */
export const operationId = (tool: string, operation: string): string => `${tool}:${operation}`
export const effectGroup = (effect: string): string => `effect:${effect}`
