/** Why a store refuses to open: said once, at start, to the person who starts the service. */
export type StoreFaultCode =
  | 'store_locked'
  | 'format_newer'
  | 'data_damaged'
  | 'unsafe_store_config'
  | 'store_unreachable'
  | 'store_sealed'
  | 'store_behind'

export class StoreFault extends Error {
  readonly code: StoreFaultCode
  constructor(code: StoreFaultCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'StoreFault'
    this.code = code
  }
}
