// The transparency log held against golang.org/x/mod/sumdb, which nobody here wrote: the checkpoint opened by its key,
// every tile read by the tree it says, our proofs checked, and Go's own made from our tiles.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type given struct {
	Key         string
	Tiles       string
	Checkpoints []string
	Records     [][]byte
	Inclusion   []struct {
		Index, Size int64
		Path        []tlog.Hash
	}
	Consistency []struct {
		From, To int64
		Path     []tlog.Hash
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func expect(holds bool, what string) {
	if !holds {
		must(fmt.Errorf("%s", what))
	}
}

type tiles struct{ folder string }

func (t tiles) Height() int                     { return height }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, each := range wanted {
		// tlog-tiles leaves out the height, which is always 8.
		path := strings.Replace(each.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(t.folder, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func main() {
	var in given
	must(json.NewDecoder(os.Stdin).Decode(&in))
	verifier, err := note.NewVerifier(in.Key)
	must(err)
	trees := map[int64]tlog.Hash{}
	var newest tlog.Tree
	for _, text := range in.Checkpoints {
		opened, err := note.Open([]byte(text), note.VerifierList(verifier))
		must(err)
		lines := strings.Split(opened.Text, "\n")
		expect(lines[0] == verifier.Name(), "the origin is not the name of the key")
		size, err := strconv.ParseInt(lines[1], 10, 64)
		must(err)
		root, err := tlog.ParseHash(lines[2])
		must(err)
		trees[size] = root
		if size > newest.N {
			newest = tlog.Tree{N: size, Hash: root}
		}
		_, err = note.Open(bytes.Replace([]byte(text), []byte("\n"+lines[1]+"\n"), []byte("\n1\n"), 1), note.VerifierList(verifier))
		expect(err != nil, "a checkpoint with another size was opened")
	}

	reader := tlog.TileHashReader(newest, tiles{in.Tiles})
	root, err := tlog.TreeHash(newest.N, reader)
	must(err)
	expect(root == newest.Hash, "the tiles make another root")
	for index, record := range in.Records {
		proof, err := tlog.ProveRecord(newest.N, int64(index), reader)
		must(err)
		must(tlog.CheckRecord(proof, newest.N, newest.Hash, int64(index), tlog.RecordHash(record)))
	}
	for _, each := range in.Inclusion {
		leaf := tlog.RecordHash(in.Records[each.Index])
		must(tlog.CheckRecord(each.Path, each.Size, trees[each.Size], each.Index, leaf))
		expect(tlog.CheckRecord(each.Path, each.Size, trees[each.Size], each.Index, tlog.RecordHash(nil)) != nil, "another record was proven")
	}
	for _, each := range in.Consistency {
		must(tlog.CheckTree(each.Path, each.To, trees[each.To], each.From, trees[each.From]))
		own, err := tlog.ProveTree(each.To, each.From, reader)
		must(err)
		expect(fmt.Sprint([]tlog.Hash(own)) == fmt.Sprint(each.Path), "Go makes another consistency proof")
	}
	fmt.Printf("%d records, %d checkpoints, %d inclusion and %d consistency proofs\n",
		len(in.Records), len(in.Checkpoints), len(in.Inclusion), len(in.Consistency))
}
