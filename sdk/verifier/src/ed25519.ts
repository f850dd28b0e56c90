/** Which 32 bytes are an Ed25519 public key worth trusting: OpenSSL takes any, so this looks before it does. */

const P = 2n ** 255n - 19n
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n

const mod = (value: bigint): bigint => ((value % P) + P) % P

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  let square = mod(base)
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % P
    square = (square * square) % P
  }
  return result
}

/**
 * True for the canonical encoding (RFC 8032 §5.1.3) of a point that is on the curve and not of small order. A
 * small-order key accepts one signature for many messages.
 */
export function isUsableEd25519Point(bytes: Uint8Array): boolean {
  if (bytes.length !== 32) return false
  let y = 0n
  for (let index = 31; index >= 0; index--) y = (y << 8n) | BigInt(index === 31 ? bytes[31]! & 0x7f : bytes[index]!)
  if (y >= P) return false
  // -x² + y² = 1 + d x² y², so x² = (y² - 1) / (d y² + 1).
  const yy = (y * y) % P
  const u = mod(yy - 1n)
  const v = mod(D * yy + 1n)
  // x = 0: the neutral point and the point of order two.
  if (u === 0n) return false
  // Euler: u/v is a square exactly where (u v)^((p-1)/2) is 1.
  if (power(u * v, (P - 1n) / 2n) !== 1n) return false
  // Order four has y = 0. Order eight doubles into it: 2P has y = (y² + x²) / (2 + x² - y²), 0 where x² = -y².
  return y !== 0n && mod(u + yy * v) !== 0n
}
