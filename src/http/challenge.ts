/** `POST /challenge`: what the proof of a client attestation must carry (draft-ietf-oauth-attestation-based-client-auth §6.1). */
import { z } from 'zod'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

export const challengeRoute: Route = {
  method: 'POST',
  path: '/challenge',
  access: 'public',
  tag: 'OAuth',
  summary: 'A fresh challenge for the proof of a client attestation',
  answers: {
    200: {
      description: 'Good for a window of dpop.nonce_lifetime_seconds and the next one',
      schema: z.object({ attestation_challenge: z.string() }),
    },
    ...errorAnswers(413, 429, 503),
  },
  handle: ({ deps }) =>
    Response.json({ attestation_challenge: deps.challenges.fresh() }, { headers: { 'Cache-Control': 'no-store' } }),
}
