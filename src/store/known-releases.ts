/** A list of ten thousand components, as both adapters keep it: it is read when somebody revokes by one. */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { KnownRelease } from '../revoke/known-releases.ts'

/** As many as are unpacked without letting others have a turn. */
export const RELEASES_AT_ONCE = 20
/** A manifest is smaller. */
const MOST_BYTES = 1_048_576

export const packRelease = ({ agent, components }: KnownRelease): string =>
  deflateRawSync(JSON.stringify({ agent, components })).toString('base64')

export const unpackRelease = (id: string, packed: string): KnownRelease => ({
  id,
  ...(JSON.parse(
    inflateRawSync(Buffer.from(packed, 'base64'), { maxOutputLength: MOST_BYTES }).toString('utf8'),
  ) as Omit<KnownRelease, 'id'>),
})
