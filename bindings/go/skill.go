package skillcache

/*
#include <skillcache.h>
*/
import "C"

import (
	"encoding/json"
	"fmt"
)

// Skill is a draft to be put, or a stored version. Empty fields of a draft are left as they are.
type Skill struct {
	ID          string `json:"id"`
	Code        string `json:"code"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Category    string `json:"category"`
	// Complexity is basic, intermediate, advanced or expert.
	Complexity string `json:"complexity"`
	Language   string `json:"language"`
	// InputSchema and OutputSchema are JSON Schemas.
	InputSchema    json.RawMessage `json:"input_schema"`
	OutputSchema   json.RawMessage `json:"output_schema"`
	Parameters     json.RawMessage `json:"parameters"`
	Tags           []string        `json:"tags"`
	RequiredSkills []string        `json:"required_skills"`
	Dependencies   []string        `json:"dependencies"`
	// Cache is auto, yes or no.
	Cache string `json:"cache"`
	// Limits are the skill's own: timeout_ms, max_cpu_s, max_memory_mb, max_file_mb, max_open_files, max_threads,
	// max_output_kb, max_answer_kb, in the ranges of the options of the same names (room sandbox).
	Limits map[string]uint64 `json:"limits"`
	// State is active, quarantined or retired; empty in a draft leaves it as it is.
	State string `json:"state"`
	// Instructions say how to use the skill.
	Instructions string `json:"instructions"`
	// Origin, Author, Model and Parent say where this version comes from.
	Origin string `json:"origin"`
	Author string `json:"author"`
	Model  string `json:"model"`
	Parent string `json:"parent"`
	// Embedding is what a draft is found by beside words; nil leaves it as it is, empty takes it away. Records come without it.
	Embedding []float32 `json:"-"`
	// Outcomes count how the calls of this version ended, by name. They, Version, UsageCount and SuccessCount are the library's: a
	// draft's are not read.
	Outcomes     map[string]uint64 `json:"outcomes"`
	Version      uint32            `json:"version"`
	UsageCount   uint64            `json:"usage_count"`
	SuccessCount uint64            `json:"success_count"`
	// More has further fields of a draft by name, as text or, for lists and objects, as JSON.
	More map[string]string `json:"-"`
}

// fields are the texts that skc_skill_set takes.
func (s *Skill) fields() (map[string]string, error) {
	fields := map[string]string{
		"name": s.Name, "description": s.Description, "category": s.Category, "complexity": s.Complexity,
		"language": s.Language, "cache": s.Cache, "input_schema": string(s.InputSchema),
		"output_schema": string(s.OutputSchema), "parameters": string(s.Parameters), "state": s.State,
		"instructions": s.Instructions, "origin": s.Origin, "author": s.Author, "model": s.Model, "parent": s.Parent,
	}
	for name, value := range map[string]any{
		"tags": s.Tags, "required_skills": s.RequiredSkills, "dependencies": s.Dependencies, "limits": s.Limits,
		"embedding": s.Embedding,
	} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, newError(C.SKC_E_INVALID, fmt.Sprintf("%s: %v", name, err))
		}
		// A nil list or map is a field that is left as it is.
		if string(text) != "null" {
			fields[name] = string(text)
		}
	}
	for name, text := range fields {
		if text == "" {
			delete(fields, name)
		}
	}
	for name, text := range s.More {
		fields[name] = text
	}
	return fields, nil
}

// draft makes the C object, which the caller frees.
func (s *Skill) draft() (*C.skc_skill, error) {
	fields, err := s.fields()
	if err != nil {
		return nil, err
	}
	var copies texts
	defer copies.free()
	code, length := block([]byte(s.Code))
	id := copies.copy(s.ID, "id")
	if copies.err != nil {
		return nil, copies.err
	}
	skill := C.skc_skill_new(id, code, length)
	if skill == nil {
		return nil, newError(C.SKC_E_INVALID, "the id and the code of a skill must be UTF-8")
	}
	// All limits at once stand before single ones, which change them.
	names := []string{"limits"}
	for name := range fields {
		if name != "limits" {
			names = append(names, name)
		}
	}
	for _, name := range names {
		text, given := fields[name]
		if !given {
			continue
		}
		field, value := copies.copy(name, "field"), copies.copy(text, name)
		if copies.err == nil {
			var left *C.skc_error
			status := C.skc_skill_set(skill, field, value, &left)
			copies.err = failure(status, left)
		}
		if copies.err != nil {
			C.skc_skill_free(skill)
			return nil, copies.err
		}
	}
	return skill, nil
}
