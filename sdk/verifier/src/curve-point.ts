/** Whether a point lies on the P-256 or P-384 it says it does, for runtimes that would only tell at the first use. */

/** y² = x³ − 3x + b over the field of p (FIPS 186-4 D.1.2). */
interface Curve {
  readonly p: bigint
  readonly b: bigint
}
const P256: Curve = {
  p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
  b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
}
const P384: Curve = {
  p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
  b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
}

export function isOnCurve(crv: 'P-256' | 'P-384', x: Uint8Array, y: Uint8Array): boolean {
  const { p, b } = crv === 'P-256' ? P256 : P384
  const [px, py] = [integer(x), integer(y)]
  return px < p && py < p && (py * py - (px * px * px - 3n * px + b)) % p === 0n
}

const integer = (bytes: Uint8Array): bigint => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
