/** The address block a stranger is counted under: spellings of one address, and one IPv6 /64, are one source. */
import { isIPv4, isIPv6 } from 'node:net'

/** An IPv4 address; `<prefix>::/64` for IPv6; the IPv4 address inside an IPv4-mapped one; `unknown` for the rest. */
export function sourceBlock(address: string): string {
  if (isIPv4(address)) return address
  const zone = address.indexOf('%')
  // A block is its own block: whoever counts by source may be given one.
  const bare = (zone < 0 ? address : address.slice(0, zone)).replace(/::\/64$/, '::')
  if (!isIPv6(bare)) return 'unknown'
  const groups = groupsOf(bare)
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff // RFC 4291 §2.5.5.2
  if (mapped) return [groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join('.')
  const prefix = groups.slice(0, 4)
  while (prefix.length > 0 && prefix.at(-1) === 0) prefix.pop()
  return `${prefix.map((group) => group.toString(16)).join(':')}::/64`
}

/** The eight groups of an address that `isIPv6` accepts. */
function groupsOf(address: string): number[] {
  const [left = '', right] = address.split('::')
  const head = parse(left)
  if (right === undefined) return head
  const tail = parse(right)
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail]
}

function parse(part: string): number[] {
  if (part === '') return []
  return part.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [(a << 8) | b, (c << 8) | d]
  })
}
