/** SHA-256 (FIPS 180-4) and HMAC (RFC 2104) in plain code, for runtimes whose only hash is asynchronous. */

const BLOCK_BYTES = 64
const words = (hex: string): Int32Array => Int32Array.from(hex.trim().split(/\s+/), (word) => Number.parseInt(word, 16))

// §4.2.2: the fractions of the cube roots of the first 64 primes.
const ROUND_CONSTANTS = words(`
  428a2f98 71374491 b5c0fbcf e9b5dba5 3956c25b 59f111f1 923f82a4 ab1c5ed5
  d807aa98 12835b01 243185be 550c7dc3 72be5d74 80deb1fe 9bdc06a7 c19bf174
  e49b69c1 efbe4786 0fc19dc6 240ca1cc 2de92c6f 4a7484aa 5cb0a9dc 76f988da
  983e5152 a831c66d b00327c8 bf597fc7 c6e00bf3 d5a79147 06ca6351 14292967
  27b70a85 2e1b2138 4d2c6dfc 53380d13 650a7354 766a0abb 81c2c92e 92722c85
  a2bfe8a1 a81a664b c24b8b70 c76c51a3 d192e819 d6990624 f40e3585 106aa070
  19a4c116 1e376c08 2748774c 34b0bcb5 391c0cb3 4ed8aa4a 5b9cca4f 682e6ff3
  748f82ee 78a5636f 84c87814 8cc70208 90befffa a4506ceb bef9a3f7 c67178f2`)
// §5.3.3: the fractions of the square roots of the first eight.
const INITIAL = words('6a09e667 bb67ae85 3c6ef372 a54ff53a 510e527f 9b05688c 1f83d9ab 5be0cd19')

const rotate = (word: number, by: number): number => (word >>> by) | (word << (32 - by))

/** §6.2.2 */
function compress(state: Int32Array, view: DataView, offset: number, schedule: Int32Array): void {
  for (let t = 0; t < 16; t++) schedule[t] = view.getInt32(offset + t * 4)
  for (let t = 16; t < 64; t++) {
    const near = schedule[t - 2]!
    const far = schedule[t - 15]!
    const sigma1 = rotate(near, 17) ^ rotate(near, 19) ^ (near >>> 10)
    const sigma0 = rotate(far, 7) ^ rotate(far, 18) ^ (far >>> 3)
    schedule[t] = (sigma1 + schedule[t - 7]! + sigma0 + schedule[t - 16]!) | 0
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number]
  for (let t = 0; t < 64; t++) {
    const choice = (e & f) ^ (~e & g)
    const majority = (a & b) ^ (a & c) ^ (b & c)
    const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
    const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
    const first = (h + sum1 + choice + ROUND_CONSTANTS[t]! + schedule[t]!) | 0
    h = g
    g = f
    f = e
    e = (d + first) | 0
    d = c
    c = b
    b = a
    a = (first + sum0 + majority) | 0
  }
  for (const [index, word] of [a, b, c, d, e, f, g, h].entries()) state[index] = (state[index]! + word) | 0
}

export function sha256(message: Uint8Array): Uint8Array {
  // §5.1.1: a one bit, zeros, and the length in bits as 64 bits.
  const padded = new Uint8Array(Math.ceil((message.length + 9) / BLOCK_BYTES) * BLOCK_BYTES)
  padded.set(message)
  padded[message.length] = 0x80
  const view = new DataView(padded.buffer)
  view.setUint32(padded.length - 8, Math.floor(message.length / 2 ** 29))
  view.setUint32(padded.length - 4, message.length << 3)
  const state = Int32Array.from(INITIAL)
  const schedule = new Int32Array(64)
  for (let offset = 0; offset < padded.length; offset += BLOCK_BYTES) compress(state, view, offset, schedule)
  const digest = new Uint8Array(32)
  const out = new DataView(digest.buffer)
  for (const [index, word] of state.entries()) out.setInt32(index * 4, word)
  return digest
}

export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES)
  block.set(key.length > BLOCK_BYTES ? sha256(key) : key)
  const under = (pad: number, text: Uint8Array): Uint8Array => {
    const whole = new Uint8Array(BLOCK_BYTES + text.length)
    whole.set(block.map((byte) => byte ^ pad))
    whole.set(text, BLOCK_BYTES)
    return sha256(whole)
  }
  return under(0x5c, under(0x36, message))
}
