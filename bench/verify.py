"""PyJWT on one token, again and again: CPU microseconds per verification, one number for each round."""

import json
import sys
import time

import jwt

given = json.load(sys.stdin)
key = jwt.PyJWK.from_dict(given["jwk"]).key


def once():
    jwt.decode(
        given["token"], key, algorithms=["ES256"], audience=given["audience"], issuer=given["issuer"]
    )


rounds = []
for _ in range(given["rounds"] + 1):
    began = time.process_time()
    for _ in range(given["each"]):
        once()
    rounds.append((time.process_time() - began) * 1e6 / given["each"])
print(json.dumps(rounds[1:]))
