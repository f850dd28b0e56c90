// go-jose on one token, again and again: CPU microseconds per verification, one number for each round.
// Built in a temporary folder by verification.ts, which brings its module.
package main

import (
	"encoding/json"
	"os"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

type given struct {
	Token    string          `json:"token"`
	Jwk      jose.JSONWebKey `json:"jwk"`
	Issuer   string          `json:"issuer"`
	Audience string          `json:"audience"`
	Each     int             `json:"each"`
	Rounds   int             `json:"rounds"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func cpu() time.Duration {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func once(in *given) {
	token, err := jwt.ParseSigned(in.Token, []jose.SignatureAlgorithm{jose.ES256})
	must(err)
	var claims jwt.Claims
	must(token.Claims(in.Jwk.Key, &claims))
	must(claims.Validate(jwt.Expected{Issuer: in.Issuer, AnyAudience: jwt.Audience{in.Audience}, Time: time.Now()}))
}

func main() {
	var in given
	must(json.NewDecoder(os.Stdin).Decode(&in))
	var rounds []float64
	for round := 0; round <= in.Rounds; round++ {
		began := cpu()
		for i := 0; i < in.Each; i++ {
			once(&in)
		}
		if round > 0 {
			rounds = append(rounds, float64((cpu()-began).Nanoseconds())/1e3/float64(in.Each))
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(rounds))
}
