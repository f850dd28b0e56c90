/** RSA moduli of a known faulty generator (ROCA, CVE-2017-15361): their private keys can be computed. */

const SMALL_PRIMES =
  '3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 73 79 83 89 97 101 103 107 109 113 127 131 137'
const PRIMES: readonly number[] = SMALL_PRIMES.split(' ').map(Number)

/**
 * The generator made primes that are powers of 65537 modulo each of these, so the modulus is one too. For another
 * modulus that happens by chance less than once in 10^7 times.
 */
export function isRocaModulus(modulus: Uint8Array): boolean {
  return PRIMES.every((prime) => {
    let rest = 0
    for (const byte of modulus) rest = (rest * 256 + byte) % prime
    let power = 1
    do {
      if (power === rest) return true
      power = (power * 65_537) % prime
    } while (power !== 1)
    return false
  })
}
