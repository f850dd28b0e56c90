/** Which URLs may stand in the configuration, and which addresses a fetch may reach (SECURITY-CASES I). */
import { BlockList, isIPv4, isIPv6 } from 'node:net'

/** A host that is this machine and nothing else, written plainly. */
const LOOPBACK_HOSTS: readonly string[] = ['127.0.0.1', '[::1]', 'localhost']

/** Why `text` may not be used as an address of a service, or undefined. Compared as written: nothing is mended. */
export function urlProblem(
  text: string,
  { development, privately = false }: { readonly development: boolean; readonly privately?: boolean | undefined },
): string | undefined {
  // The parser takes tabs, backslashes and userinfo, and mends them: what it would mend is refused before.
  if (!/^[\u0021-\u007e]+$/.test(text) || /[\\@]/.test(text)) return 'holds characters that URLs read in two ways'
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return 'is not an absolute URL'
  }
  if (url.hash !== '' || text.includes('#')) return 'has a fragment'
  if (url.protocol === 'https:') {
    if (!privately && isPrivateHost(url.hostname)) return 'names a private or loopback address'
  } else if (url.protocol === 'http:') {
    if (!development) return 'must begin with https://'
    if (!LOOPBACK_HOSTS.includes(url.hostname))
      return 'over http may only name one loopback host (127.0.0.1), and only in development'
  } else {
    return 'must begin with https://'
  }
  // `0x7f.1` and `2130706433` are spellings of an address: the host must be written as it will be connected to.
  if (!text.slice(url.protocol.length + 2).startsWith(url.host)) return `is not in canonical form: write ${url.href}`
  return undefined
}

export const isLoopbackHttp = (text: string): boolean => {
  const url = new URL(text)
  return url.protocol === 'http:' && LOOPBACK_HOSTS.includes(url.hostname)
}

/** An audience is one exact string, in the one form that URL parsers agree on (SECURITY-CASES D5). */
export function audienceProblem(text: string, { development }: { readonly development: boolean }): string | undefined {
  if (!/^[\u0021-\u007e]+$/.test(text) || /[\\@#]/.test(text))
    return 'holds userinfo, a fragment or characters that URLs read in two ways'
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return 'is not an absolute URI'
  }
  if (url.protocol !== 'https:' && !(development && url.protocol === 'http:' && LOOPBACK_HOSTS.includes(url.hostname)))
    return 'must begin with https://'
  if (url.href !== text) return `is not in canonical form: write ${url.href}`
  for (const [escaped] of text.matchAll(/%../g)) {
    const code = Number.parseInt(escaped.slice(1), 16)
    if (escaped !== escaped.toUpperCase() || /[A-Za-z0-9._~-]/.test(String.fromCharCode(code)))
      return `has the needless or lower-case escape ${escaped}`
  }
  return undefined
}

const forbidden = new BlockList()
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  forbidden.addSubnet(net, bits, 'ipv4')
}
// IPv6: only global unicast (RFC 4291 §2.4) is public, and in it not the ranges that carry an IPv4 address or nothing.
const globalUnicast = new BlockList()
globalUnicast.addSubnet('2000::', 3, 'ipv6')
for (const [net, bits] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  forbidden.addSubnet(net, bits, 'ipv6')
}

export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !forbidden.check(address, 'ipv4')
  return isIPv6(address) && globalUnicast.check(address, 'ipv6') && !forbidden.check(address, 'ipv6')
}

/** A name that is surely not public; other names are judged by the address that they resolve to, when connecting. */
function isPrivateHost(hostname: string): boolean {
  const bare = hostname.replace(/^\[|\]$/g, '')
  if (isIPv4(bare) || isIPv6(bare)) return !isPublicAddress(bare)
  return /^(?:.*\.)?(?:localhost|local|internal)\.?$/.test(bare)
}
