/** What the demo's processes are told by their parent: one JSON file in the demo's folder, named on the command line. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface DemoSettings {
  /** The demo's temporary folder. */
  readonly folder: string
  /** Where each process listens, on 127.0.0.1. */
  readonly ports: {
    readonly errand: number
    readonly mtls: number
    readonly idp: number
    readonly tickets: number
    readonly payments: number
    readonly research: number
    readonly paymentsAgent: number
  }
}

export const readSettings = (): DemoSettings => JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as DemoSettings

const loopback = (port: number): string => `http://127.0.0.1:${port}`

/** Base URLs of everything that speaks HTTP. */
export const urlsOf = ({ ports }: DemoSettings) => ({
  errand: loopback(ports.errand),
  idp: loopback(ports.idp),
  tickets: loopback(ports.tickets),
  payments: loopback(ports.payments),
  research: loopback(ports.research),
  paymentsAgent: loopback(ports.paymentsAgent),
})

export const fileIn = (settings: DemoSettings, ...path: string[]): string => join(settings.folder, ...path)
