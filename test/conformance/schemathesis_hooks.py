"""Gives schemathesis the callers of the sample company: each request comes as one of them, proven anew, or as nobody."""

import base64
import hashlib
import json
import os
import random
import time
import uuid

import jwt
import schemathesis
from jwt.algorithms import ECAlgorithm

KEYS = os.environ["ERRAND_FUZZ_KEYS"]
ISSUER = os.environ["ERRAND_FUZZ_ISSUER"]
CALLERS = {
    "admin": "admin.jwk",
    "research": "agents/research.jwk",
    "triage": "agents/triage.jwk",
    "tool:tickets": "tools/tickets.jwk",
}
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
nonces = {}
# One worker: the answer that comes is to the request that went.
sent = {"by": None}


def load(path):
    with open(os.path.join(KEYS, path)) as file:
        jwk = json.load(file)
    public = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
    return ECAlgorithm.from_jwk(json.dumps(jwk)), jwk["kid"], public


keys = {client: load(path) for client, path in CALLERS.items()}


def assertion(client):
    key, kid, _ = keys[client]
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": ISSUER, "jti": str(uuid.uuid4()), "iat": now, "exp": now + 60}
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid, "typ": "client-authentication+jwt"})


def proof(client, method, path):
    key, _, public = keys[client]
    claims = {"jti": str(uuid.uuid4()), "htm": method, "htu": ISSUER + path, "iat": int(time.time())}
    if client in nonces:
        claims["nonce"] = nonces[client]
    return jwt.encode(claims, key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": public})


def user_token():
    key, kid, _ = load("users/dev-issuer.jwk")
    now = int(time.time())
    claims = {"iss": ISSUER + "/dev-issuer", "sub": "alice", "aud": ISSUER, "iat": now, "exp": now + 300}
    claims["groups"] = ["support", "finance"]
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid, "typ": "JWT"})


def text(value):
    return value if isinstance(value, str) else None


@schemathesis.hook
def before_call(context, case, **kwargs):
    client = random.choice([*CALLERS, *CALLERS, None])
    sent["by"] = None
    if client is None:
        return
    headers = case.headers if case.headers is not None else {}
    case.headers = headers
    sent["by"] = client
    form = case.media_type == "application/x-www-form-urlencoded"
    try:
        path = case.formatted_path
    except Exception:  # noqa: BLE001 - what has no path is sent as it is
        return
    # Sealed by an administrator, the service rightly answers 503 to every exchange until somebody unseals it.
    if path == "/seal" and client == "admin":
        client = sent["by"] = "research"
    headers["DPoP"] = proof(client, case.method.upper(), path)
    if not form:
        headers["Authorization"] = "ClientAssertion " + assertion(client)
        return
    body = case.body
    if not isinstance(body, dict):
        return
    if random.random() < 0.8:
        body["client_assertion_type"] = ASSERTION_TYPE
        body["client_assertion"] = assertion(client)
        body.pop("actor_token", None)
        body.pop("actor_token_type", None)
        body.pop("client_id", None)
    if path == "/token" and random.random() < 0.6:
        body["grant_type"] = "urn:ietf:params:oauth:grant-type:token-exchange"
        body["subject_token"] = user_token()
        body["subject_token_type"] = "urn:ietf:params:oauth:token-type:id_token"
        body["audience"] = random.choice(["tickets", "crm", "payments", "warehouse", "nothing"])
        if random.random() < 0.7:
            body["request_details"] = json.dumps(
                {
                    "purpose": "fuzzing",
                    "environment": "staging",
                    "data_classification": "internal",
                    "deadline_seconds": 60,
                }
            )
            for name in ("task_id", "resource", "scope", "authorization_details", "requested_token_type", "delegate_to"):
                if random.random() < 0.8:
                    body.pop(name, None)


@schemathesis.hook
def after_call(context, case, response):
    nonce = response.headers.get("dpop-nonce")
    client = sent["by"]
    if nonce and client:
        nonces[client] = nonce[0] if isinstance(nonce, list) else nonce
