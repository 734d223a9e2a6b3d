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
	// Version, UsageCount and SuccessCount are the library's: a draft's are not read.
	Version      uint32 `json:"version"`
	UsageCount   uint64 `json:"usage_count"`
	SuccessCount uint64 `json:"success_count"`
	// More has further fields of a draft by name, as text or, for lists and objects, as JSON.
	More map[string]string `json:"-"`
}

// fields are the texts that skc_skill_set takes.
func (s *Skill) fields() (map[string]string, error) {
	fields := map[string]string{
		"name": s.Name, "description": s.Description, "category": s.Category, "complexity": s.Complexity,
		"language": s.Language, "cache": s.Cache, "input_schema": string(s.InputSchema),
		"output_schema": string(s.OutputSchema), "parameters": string(s.Parameters),
	}
	for name, list := range map[string][]string{
		"tags": s.Tags, "required_skills": s.RequiredSkills, "dependencies": s.Dependencies,
	} {
		if list == nil {
			continue
		}
		text, err := json.Marshal(list)
		if err != nil {
			return nil, newError(C.SKC_E_INVALID, fmt.Sprintf("%s: %v", name, err))
		}
		fields[name] = string(text)
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
	for name, text := range fields {
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
