PRAGMA application_id = 1869639265;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE candidates (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        backbone TEXT NOT NULL,
        canonical_hash TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        seed INTEGER NOT NULL,
        parent INTEGER REFERENCES candidates,
        mutation TEXT,
        status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
        score REAL,
        metrics TEXT NOT NULL,
        seconds REAL NOT NULL,
        reason TEXT
    ) STRICT;
INSERT INTO "candidates" VALUES(0,'candidate-0','{"ffn_size":16,"format":"opnas.backbone/1","heads":2,"hidden_size":16,"layers":[{"kernel_size":3,"kind":"conv"},{"graph":{"format":"opnas.graph/1","inputs":["Q","K"],"name":"graph","nodes":[{"id":"n0","inputs":["K","K"],"op":"cosine_similarity"},{"id":"n1","inputs":["Q"],"op":"transpose"},{"id":"n2","inputs":["n0","n1"],"op":"euclidean_distance"}],"output":"n2"},"kind":"attention"}],"name":"candidate-0"}','7e1e97b29d88db1ec0e7f6cbf6bff51c','df6ca8a717495eb21015151ccc59ccb5',1114279194,NULL,NULL,'ok',-2.25,'{"accuracy":0.25,"duplicates_avoided":0.0,"loss":2.25}',1.5,NULL);
INSERT INTO "candidates" VALUES(1,'candidate-1','{"ffn_size":16,"format":"opnas.backbone/1","heads":2,"hidden_size":16,"layers":[{"graph":{"format":"opnas.graph/1","inputs":["Q"],"name":"graph","nodes":[{"id":"n0","inputs":["Q"],"op":"transpose"},{"id":"n1","inputs":["n0"],"op":"softmax"},{"id":"n2","inputs":["n1"],"op":"transpose"}],"output":"n2"},"kind":"attention"},{"kernel_size":5,"kind":"conv"}],"name":"candidate-1"}','d1acb71699a408521f3721821b1174cf','c7b11fac81da179bdb15e90a552f0245',1240027048,NULL,NULL,'ok',-2.25,'{"accuracy":0.25,"duplicates_avoided":0.0,"loss":2.25}',1.5,NULL);
INSERT INTO "candidates" VALUES(2,'candidate-2','{"ffn_size":16,"format":"opnas.backbone/1","heads":2,"hidden_size":16,"layers":[{"kernel_size":9,"kind":"conv"},{"graph":{"format":"opnas.graph/1","inputs":["Q"],"name":"graph","nodes":[{"id":"n0","inputs":["Q"],"op":"transpose"},{"id":"n1","inputs":["n0"],"op":"transpose"},{"id":"n2","inputs":["n1","Q"],"op":"add"}],"output":"n2"},"kind":"attention"}],"name":"candidate-2"}','93ff12e781e8ce54c45c0727c7f05121','68b491218c26879bdae909527f401b14',1404277830,NULL,NULL,'ok',-2.25,'{"accuracy":0.25,"duplicates_avoided":0.0,"loss":2.25}',1.5,NULL);
INSERT INTO "candidates" VALUES(3,'candidate-3','{"ffn_size":16,"format":"opnas.backbone/1","heads":2,"hidden_size":16,"layers":[{"kernel_size":3,"kind":"conv"},{"graph":{"format":"opnas.graph/1","inputs":["Q","K"],"name":"graph","nodes":[{"id":"n3","inputs":["K","K"],"op":"cosine_similarity"},{"id":"n4","inputs":["n3"],"op":"logsigmoid"},{"id":"n0","inputs":["n4"],"op":"transpose"},{"id":"n1","inputs":["Q"],"op":"transpose"},{"id":"n2","inputs":["n0","n1"],"op":"euclidean_distance"}],"output":"n2"},"kind":"attention"}],"name":"candidate-3"}','be8155d87a090639d492b5f940a80d08','271a355c7a6a68ffac134cbb79dda918',2089843356,0,'{"description":"cosine_similarity at n0 replaced by transpose","kind":"replace","layer":2,"operation":"transpose"}','failed',NULL,'{"duplicates_avoided":0.0}',2.59189982898533344268e-05,'MemoryError: out of memory');
INSERT INTO "candidates" VALUES(4,'candidate-4','{"ffn_size":16,"format":"opnas.backbone/1","heads":2,"hidden_size":16,"layers":[{"graph":{"format":"opnas.graph/1","inputs":["Q"],"name":"graph","nodes":[{"id":"n0","inputs":["Q"],"op":"transpose"},{"id":"n1","inputs":["n0"],"op":"softmax"},{"id":"n3","inputs":["n1"],"op":"neg"},{"id":"n2","inputs":["n3"],"op":"transpose"}],"output":"n2"},"kind":"attention"},{"kernel_size":5,"kind":"conv"}],"name":"candidate-4"}','3013df9dc17b2b7d1815ee3dfd2b3c98','87d3aac526a824f0d70a8eb6e9b7530d',1154002579,1,'{"description":"neg inserted between n1 and n2","kind":"insert","layer":1,"operation":"neg"}','ok',-2.2,'{"accuracy":0.25,"duplicates_avoided":0.0,"loss":2.2}',1.5,NULL);
INSERT INTO "candidates" VALUES(5,'candidate-5','{"ffn_size":16,"format":"opnas.backbone/1","heads":2,"hidden_size":16,"layers":[{"graph":{"format":"opnas.graph/1","inputs":["Q"],"name":"graph","nodes":[{"id":"n0","inputs":["Q"],"op":"transpose"},{"id":"n1","inputs":["n0"],"op":"softmax"},{"id":"n3","inputs":["n1"],"op":"logsigmoid"},{"id":"n2","inputs":["n3"],"op":"transpose"}],"output":"n2"},"kind":"attention"},{"kernel_size":5,"kind":"conv"}],"name":"candidate-5"}','2b92d2d72699a9afec2a8eefbaf7d246','d497c1b90f7810f72758433b8a9d2533',2009744865,4,'{"description":"neg at n3 replaced by logsigmoid","kind":"replace","layer":1,"operation":"logsigmoid"}','ok',-2.2,'{"accuracy":0.25,"duplicates_avoided":0.0,"loss":2.2}',1.5,NULL);
CREATE TABLE draws (
        candidate INTEGER NOT NULL REFERENCES candidates,
        operation TEXT NOT NULL
    ) STRICT;
INSERT INTO "draws" VALUES(3,'transpose');
INSERT INTO "draws" VALUES(4,'neg');
INSERT INTO "draws" VALUES(5,'logsigmoid');
CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
INSERT INTO "settings" VALUES('config','{"seed":3}');
INSERT INTO "settings" VALUES('seal','{"candidates":6,"digest":"a58b957e6c34c249c69e40ae4bb968f3","draws":3}');
INSERT INTO "settings" VALUES('search','{"budget":5,"seed":3,"space":{"conv_probability":0.5,"ffn_size":16,"heads":2,"hidden_size":16,"kernel_sizes":[3,5,7,9,15,31,65],"layer_mutation_probability":0.3,"layers":2,"max_nodes":5,"min_nodes":3,"operations":["neg","transpose","scale","softmax","logsigmoid","softsign","add","matmul","cosine_similarity","euclidean_distance"]},"strategy":{"alpha":1.0,"children":1,"context":"none","counts":"draws","crossover":0.0,"decay":1.0,"name":"opnas","parents":2,"population":3,"scores":"standardised","shrinkage":1.0,"temperature":0.5}}');
COMMIT;
